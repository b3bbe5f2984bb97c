//! Connections' memory: what they hold at rest, and who gets what there is of it.

use super::*;
use std::sync::Weak;

/// A buffer that says whether anybody still has it.
fn watched() -> (Bytes, Weak<()>) {
    struct Watched(Arc<()>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            b"half a head"
        }
    }
    let alive = Arc::new(());
    let weak = Arc::downgrade(&alive);
    (Bytes::from_owner(Watched(alive)), weak)
}

/// hyper hands out what it has read and not used as a piece of the buffer that it read into, also where that is nothing.
#[tokio::test(start_paused = true)]
async fn a_connection_at_rest_keeps_no_buffer() {
    for left in [0, 4] {
        let (mut buffer, alive) = watched();
        let (stream, _theirs) = duplex(64);
        let clock = Arc::new(TestClock(tokio::time::Instant::now()));
        let mut io = Guarded::new(Box::new(stream), clock, plenty(), Held::default());
        io.unread(buffer.split_to(left));
        drop(buffer);
        assert!(alive.upgrade().is_none(), "{left} bytes keep all of it");
    }
}
