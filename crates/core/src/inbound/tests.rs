//! What holds for every row, and for hostile requests.

mod handshakes;
mod hostile;
mod vectors;
