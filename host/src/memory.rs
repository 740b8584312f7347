//! What the allocator does with memory that is free again.
//!
//! glibc gives every few threads an arena of their own, eight for each core, and each keeps what it once needed: small
//! commits over hours, whose work passes through many short-lived threads, fill them one after the other. With few, and what is
//! free given back now and then, memory stays where it is (measured by the bench `commits`). With no more than there are
//! threads that judge, these wait for those that decide and store (the bench `audits`). Other allocators are left alone.

/// Blocks of so many bytes, such as payloads that are too large, go back to the system when they are freed. Left alone,
/// glibc learns from the first of them to keep up to 32 MiB of each thread's for the next.
#[cfg(target_os = "linux")]
const LARGE: libc::c_int = 8 << 20;

/// What each arena may have free at its end. With glibc's 128 KiB, every file that is closed gives its buffers back and the next
/// one asks for cleared pages: where rows wait for windows, files do so all the time (the bench `audits`).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SPARE: libc::c_int = 32 << 20;

/// Arenas beside one for each core: for what decides, and what stores.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const BESIDE: usize = 2;

/// At the start of the process, before there are threads.
pub fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let arenas = libc::c_int::try_from(cores + BESIDE).unwrap_or(libc::c_int::MAX);
        // SAFETY: mallopt takes no pointers, and leaves things as they are where it refuses
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, SPARE);
        }
    }
}

/// Gives free pages back to the system: a few milliseconds, for every hundred commits.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointers and only touches what is free
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Asks for huge pages under what is looked up at random: each lookup in small ones also waits for the page's address (a
/// third of its time in 5 million rows: measured by the bench `reference`). Only for blocks so large that they are a mapping
/// of their own, which takes the wish with it when it is freed. Where the system refuses, pages stay as they are.
pub fn in_huge_pages<T>(block: &[T]) {
    #[cfg(target_os = "linux")]
    {
        let page = 4096;
        let begin = (block.as_ptr() as usize).next_multiple_of(page);
        let end = (block.as_ptr() as usize + size_of_val(block)) / page * page;
        if size_of_val(block) < LARGE as usize {
            return;
        }
        for wish in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
            // SAFETY: the pages lie within the block, and neither wish changes what is in them
            unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, wish) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = block;
}
