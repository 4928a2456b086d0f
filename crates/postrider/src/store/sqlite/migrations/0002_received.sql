-- Received requests. What is to be done for each day of history that exists is in 0002_received_day.sql and migrate.rs.

-- What a receiver verifies with, sealed.
ALTER TABLE webhooks ADD COLUMN sealed_receiver BLOB;
