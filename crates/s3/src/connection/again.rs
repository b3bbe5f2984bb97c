//! A future that is polled again at once where it woke itself.
//!
//! hyper and the handler of a request are one task, and tell each other of pieces of a body by waking it: by themselves, that is. The runtime takes that
//! for work that is left to do, and wakes another of its threads for it, which finds nothing: of a small put on an idle machine the dearest part.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Times in a row; then others go first.
const TIMES_MAX: usize = 8;

/// See the module.
pub(super) struct Again<F> {
    future: Pin<Box<F>>,
    own: Arc<Own>,
    waker: Waker,
}

/// Hears all that wakes the future.
struct Own(Mutex<Heard>);

struct Heard {
    /// It is being polled, and since then it was woken.
    is_polled: bool,
    is_woken: bool,
    /// Who polls it next.
    outer: Option<Waker>,
}

impl Own {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, outer: &Waker) {
        let mut heard = self.heard();
        heard.is_polled = true;
        heard.is_woken = false;
        match &mut heard.outer {
            Some(before) => before.clone_from(outer),
            none => *none = Some(outer.clone()),
        }
    }

    /// Whether it was woken meanwhile.
    fn end(&self) -> bool {
        let mut heard = self.heard();
        heard.is_polled = false;
        heard.is_woken
    }
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut heard = self.heard();
        if heard.is_polled {
            heard.is_woken = true;
            return;
        }
        let outer = heard.outer.clone();
        drop(heard);
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

impl<F: Future> Again<F> {
    pub(super) fn new(future: F) -> Self {
        let own = Arc::new(Own(Mutex::new(Heard {
            is_polled: false,
            is_woken: false,
            outer: None,
        })));
        Self {
            future: Box::pin(future),
            waker: Arc::clone(&own).into(),
            own,
        }
    }
}

impl<F: Future> Future for Again<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        for _ in 0..TIMES_MAX {
            this.own.begin(cx.waker());
            let polled = this.future.as_mut().poll(&mut Context::from_waker(&this.waker));
            let is_woken = this.own.end();
            if polled.is_ready() || !is_woken {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls once a future that wakes itself in its first `times` polls: how often it was polled, and its waker woken.
    fn polled(times: usize) -> (usize, usize) {
        let (count, mut polls) = (Arc::new(Count::default()), 0);
        let waker = Arc::clone(&count).into();
        let mut again = Again::new(poll_fn(|cx| {
            polls += 1;
            if polls <= times {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        }));
        assert!(
            Pin::new(&mut again)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(again);
        (polls, count.0.load(Ordering::Relaxed))
    }

    #[test]
    fn who_wakes_itself_is_polled_again_and_nobody_else_hears_of_it() {
        assert_eq!(polled(0), (1, 0));
        assert_eq!(polled(1), (2, 0));
        assert_eq!(polled(TIMES_MAX - 1), (TIMES_MAX, 0));
        assert_eq!(polled(usize::MAX), (TIMES_MAX, 1), "others go first");
    }

    #[test]
    fn who_is_woken_by_others_is_heard() {
        let count = Arc::new(Count::default());
        let waker = Arc::clone(&count).into();
        let inner: Mutex<Option<Waker>> = Mutex::default();
        let mut again = Again::new(poll_fn(|cx| {
            *inner.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        for n in 1..4 {
            assert!(
                Pin::new(&mut again)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            inner.lock().unwrap().take().unwrap().wake();
            assert_eq!(count.0.load(Ordering::Relaxed), n);
        }
    }
}
