//! Huge pages: the allocator asks for them, and a process that allocates a little everywhere then has a fifth of its memory in
//! what is left over of each. The kernel also makes them later, out of small ones, so that memory grows by itself.

/// Has the kernel give this process small pages only: the memory is worth more as page cache of the store.
pub fn do_without_huge_pages() {
    // A kernel that cannot has none, or is told otherwise by whoever runs it.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_can_do_without_huge_pages() {
        do_without_huge_pages();
        assert_eq!(rustix::thread::transparent_huge_pages_are_disabled(), Ok(true));
    }
}
