//! What catches a thread of ours that the dying interpreter ends, wherever it is.
//!
//! A [guarded call](super::guarded_call) is safe from that by itself. Not everything can be one: an
//! object of ours that dies takes one of the user's with it, an allocation sets the collector off,
//! a thread is started. It buys no speed: without it the process aborts.

pub(in crate::binding) use imp::ExitGuard;

/// From 3.14 on the interpreter lets such threads hang; before, it calls `pthread_exit`, which
/// glibc alone carries out by unwinding the stack.
#[cfg(all(target_os = "linux", target_env = "gnu", not(Py_3_14)))]
mod imp {
    use std::ffi::{c_int, c_void};
    use std::ptr;

    /// Parks its thread for ever as soon as `pthread_exit` begins, before a single frame is left.
    ///
    /// glibc runs a cleanup handler of the old kind, which no header declares any more but which is
    /// part of its ABI, when the frame that holds the handler's buffer is left. It compares
    /// addresses, so one whose buffer is not on the stack runs at once. Only for threads that the
    /// interpreter alone may end.
    pub(in crate::binding) struct ExitGuard {
        buffer: *mut Buffer,
    }

    /// `struct _pthread_cleanup_buffer`.
    #[repr(C)]
    struct Buffer {
        routine: Option<Routine>,
        argument: *mut c_void,
        cancel_type: c_int,
        previous: *mut Buffer,
    }

    type Routine = extern "C" fn(*mut c_void);

    unsafe extern "C" {
        fn _pthread_cleanup_push(buffer: *mut Buffer, routine: Routine, argument: *mut c_void);
        fn _pthread_cleanup_pop(buffer: *mut Buffer, execute: c_int);
    }

    impl ExitGuard {
        /// Puts it under this thread until it is dropped.
        pub(in crate::binding) fn install() -> Self {
            let blank = Buffer {
                routine: None,
                argument: ptr::null_mut(),
                cancel_type: 0,
                previous: ptr::null_mut(),
            };
            let buffer = Box::into_raw(Box::new(blank));
            // SAFETY: the buffer lives until `drop` has taken it off the thread's list.
            unsafe { _pthread_cleanup_push(buffer, park, ptr::null_mut()) };
            Self { buffer }
        }
    }

    impl Drop for ExitGuard {
        fn drop(&mut self) {
            // SAFETY: `install` put it there, on this thread: a raw pointer is not sent. Handlers
            // that came later have gone with their frames. The box is ours.
            unsafe {
                _pthread_cleanup_pop(self.buffer, 0);
                drop(Box::from_raw(self.buffer));
            }
        }
    }

    extern "C" fn park(_: *mut c_void) {
        loop {
            crate::sync::thread::park();
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(Py_3_14))))]
mod imp {
    /// Nothing: here no thread is unwound.
    pub(in crate::binding) struct ExitGuard;

    impl ExitGuard {
        pub(in crate::binding) fn install() -> Self {
            Self
        }
    }
}
