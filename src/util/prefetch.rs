//! Asking for a cache line before it is needed.

/// Starts fetching the cache line that holds the start of `at`; a hint.
#[inline(always)]
pub(crate) fn prefetch<T>(at: &T) {
    prefetch_address(std::ptr::from_ref(at).cast());
}

/// As [`prefetch`], of any address: what is not mapped is not fetched.
#[inline(always)]
pub(crate) fn prefetch_address(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can observe and never
    // faults, whatever the address; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
