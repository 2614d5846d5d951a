//! Keeps a static glibc from loading the system's name service modules.
//!
//! Whatever asks glibc for a host's address makes it read `/etc/nsswitch.conf` and load a shared library for each word
//! there that it does not know: `mdns4_minimal`, `resolve`, `myhostname`. They are made for the system's own glibc, and
//! inside ours they crash the process. musl has no such modules; a dynamic glibc is the system's own.

/// Host names are looked up in `/etc/hosts` and by DNS, whatever `/etc/nsswitch.conf` says; since 2.34 both are part of
/// glibc itself. To be called first in `main`.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[allow(unsafe_code)]
pub fn only_files_and_dns() {
    use std::ffi::{c_char, c_int};

    // nss.h of the GNU C Library.
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: the declaration is that of nss.h. Both strings are constants that end with NUL; glibc reads them during
    // the call and keeps no pointer to them. It changes its table without a lock: `main` has started no thread yet.
    let result = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    // It refuses only unknown databases and services that cannot be parsed.
    debug_assert_eq!(result, 0);
}

/// Nothing to do here.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn only_files_and_dns() {}
