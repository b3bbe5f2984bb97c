//! Every bound in one place; relations between bounds are proved here at compile time.

/// Longest object key, in bytes of UTF-8 (S3).
pub const OBJECT_KEY_BYTES_MAX: usize = 1024;
/// Largest body of one PUT or part: 5 GiB (S3).
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// Smallest part but the last: 5 MiB (S3).
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// Highest part number (S3).
pub const PART_NUMBER_MAX: u32 = 10_000;
/// User metadata, names and values together (S3).
pub const USER_METADATA_BYTES_MAX: usize = 2 << 10;
/// Keys of one page of a listing (S3).
pub const LIST_KEYS_MAX: u32 = 1000;
/// A row of an object is at most its headers, its tags and what is in it of its bytes' places: so much, about.
pub const LIST_ROW_BYTES_MAX: usize = 32 << 10;
/// What a line of a page takes beside its row, spread over the times it is in memory.
pub const LIST_LINE_BYTES: usize = 300;
/// What a page has room for by each line that was asked for: a line, a key and a record of usual length.
const LIST_ENTRY_BYTES: usize = 640;

/// Bytes of lines that a page of at most so many is made of: one that would have more ends early, as truncated. It is what is taken for it
/// of the budget before it is read, so both sides have it from here.
#[must_use]
pub const fn list_page_bytes(lines: u32) -> usize {
    let lines = if lines > LIST_KEYS_MAX {
        LIST_KEYS_MAX
    } else {
        lines
    };
    LIST_ROW_BYTES_MAX + lines as usize * LIST_ENTRY_BYTES
}

/// Rows that such a listing reads at once: of the largest rows two pages, which is less than the times a page is in memory later.
#[must_use]
pub const fn list_rows_at_once(lines: u32) -> usize {
    2 * list_page_bytes(lines) / LIST_ROW_BYTES_MAX
}

/// Tags of one object (S3).
pub const OBJECT_TAGS_MAX: usize = 10;
/// Longest tag key, in characters (S3).
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// Longest tag value, in characters (S3).
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// Buckets of one page of a listing of buckets (S3).
pub const LIST_BUCKETS_MAX: u32 = 10_000;
/// Tags of a bucket (S3).
pub const BUCKET_TAGS_MAX: usize = 50;
/// Rules of a bucket's CORS configuration (S3).
pub const CORS_RULES_MAX: usize = 100;
/// Largest document of a bucket's CORS configuration (S3).
pub const CORS_BYTES_MAX: usize = 64 << 10;
/// Header names that a browser may ask for at once; no page sends as many.
pub const CORS_HEADERS_ASKED_MAX: usize = 100;
/// Bytes of them.
pub const CORS_HEADERS_ASKED_BYTES_MAX: usize = 8 << 10;
/// Longest id of a CORS rule, in characters (S3).
pub const CORS_ID_CHARS_MAX: usize = 255;
/// What stands in a POST form before the file: names, values and framing (S3).
pub const FORM_FIELDS_BYTES_MAX: usize = 20 << 10;
/// Fields of a POST form before the file.
pub const FORM_FIELDS_MAX: usize = 200;
/// What may stand in a POST form after the file; S3 ignores it.
pub const FORM_TAIL_BYTES_MAX: usize = 64 << 10;
/// Keys of one batch delete (S3).
pub const DELETE_KEYS_MAX: usize = 1000;
/// Longest life of a presigned URL: 7 days (S3).
pub const PRESIGN_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// Largest difference between the client's clock and ours: 15 minutes (S3).
pub const CLOCK_SKEW_MS_MAX: u64 = 15 * 60 * 1000;
/// Largest XML document accepted in a request body.
pub const XML_BYTES_MAX: usize = 2 << 20;
/// Smallest aws-chunked frame but the last (S3).
pub const AWS_CHUNK_BYTES_MIN: u64 = 8192;
/// Longest line of aws-chunked framing, or of its trailer.
pub const AWS_CHUNK_LINE_BYTES_MAX: usize = 1024;
/// How long a body may keep us waiting for [`BODY_STALL_BYTES_MIN`] more bytes.
pub const BODY_STALL_MS: u64 = 30_000;
/// What buys a body another [`BODY_STALL_MS`].
pub const BODY_STALL_BYTES_MIN: u64 = 4096;
/// How long an answer that may take long (a copy) says nothing; from then on a space as often keeps the connection.
pub const SILENT_MS_MAX: u64 = 5_000;
/// Headers of a request (S3). What of them an object keeps stands in its record, which listings read.
pub const HEADER_SECTION_BYTES_MAX: usize = 8 << 10;
/// Request line and headers together.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// What a connection reads at once: more than the largest head.
pub const CONNECTION_READ_BYTES_MAX: usize = 80 << 10;
/// Client connections served at once, where memory and descriptors allow so many; more wait until one ends or the longest idle has left.
pub const CONNECTIONS_MAX: usize = 1 << 16;
/// Client connections served at once where nobody says otherwise.
pub const CONNECTIONS_DEFAULT: usize = 4096;
/// Connections that wait to be accepted.
pub const LISTEN_BACKLOG: u32 = 4096;
/// What a connection costs on which nothing has come since its last answer.
pub const CONNECTION_IDLE_BYTES: usize = 4 << 10;
/// The same of a secure one.
pub const CONNECTION_SECURE_BYTES: usize = 32 << 10;
/// What a connection costs on which something has come: its state, the request's, and buffers for a head of the usual size.
pub const CONNECTION_AWAKE_BYTES: usize = 40 << 10;
/// What a secure one that is awake costs beside that: what it has encrypted and its client has not taken.
pub const CONNECTION_SECURE_OUT_BYTES: usize = 16 << 10;
/// Bytes of a head past which a connection takes memory for the largest there may be.
pub const HEAD_USUAL_BYTES: usize = 8 << 10;
/// How long a connection stays ready for the next request before its buffers are given up.
pub const CONNECTION_REST_MS: u64 = 1_000;
/// How often a connection that waits for memory asks one more that is awake and idle to rest, or to leave with half a head.
pub const CONNECTION_ASK_MS: u64 = 500;
/// How long one that was asked waits before it looks again whether it is idle.
pub const CONNECTION_ASKED_MS: u64 = 50;
/// Connections past that bound in which only the operator's paths are answered; and those awake beside the budget of memory for such.
pub const OPERATOR_CONNECTIONS_MAX: usize = 16;
/// Descriptors that connections leave to the disks: files of extents, the journal, the index, and some to spare.
pub const DESCRIPTORS_KEPT: usize = 1024;
/// How long a connection may stay without a whole request head, idle ones too.
pub const HEAD_MS_MAX: u64 = 60_000;
/// How long a client may take to take [`WRITE_STALL_BYTES_MIN`] of an answer before its connection is closed.
pub const WRITE_STALL_MS_MAX: u64 = 60_000;
/// What buys an answer another [`WRITE_STALL_MS_MAX`], where not all of it is taken.
pub const WRITE_STALL_BYTES_MIN: u64 = 4096;
/// After an answer given before the body was read: how long, and how many bytes, are still taken off the connection so
/// that the client sees the answer and not a reset.
pub const LINGER_MS_MAX: u64 = 2_000;
/// The same when we stop and the client sends nothing that an answer could be lost to: it may keep its side open for as long as it likes.
pub const LINGER_STOPPING_MS_MAX: u64 = 200;
/// See [`LINGER_MS_MAX`].
pub const LINGER_BYTES_MAX: usize = 4 << 20;

/// Largest run of an object's bytes in one needle.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// Bytes under one crc32c of a needle.
pub const BLOCK_BYTES: usize = 64 << 10;
/// Largest piece of a needle in flight between gateway and node; a multiple of [`BLOCK_BYTES`].
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Frames from here on are hashed beside those of other bodies; smaller ones at once, where they are.
pub const LANE_BYTES_MIN: usize = 256 << 10;
/// Bytes of each body that are hashed before those that came meanwhile join, and those that went away are left out.
pub const LANE_SLICE_BYTES: usize = 64 << 10;
/// Cores for each thread that hashes large bodies.
pub const LANE_CORES: usize = 4;
/// Buffers of a frame that one disk keeps for what is read from the page cache.
pub const CACHED_READ_BUFFERS_MAX: usize = 16;
/// What large needles are written past the page cache in whole multiples of: a page, and no device's block is larger.
pub const DIRECT_BYTES: usize = 4096;
/// Needles from here on are written past the page cache.
pub const DIRECT_NEEDLE_BYTES_MIN: u64 = 1 << 20;
/// Buffers that one disk keeps for that, each a frame and a page.
pub const DIRECT_BUFFERS_MAX: usize = 4;
/// Bodies up to here ride in the index's commit.
pub const INLINE_BYTES_MAX: usize = 512;
/// Needles up to here go whole through the journal; larger ones go to their extent, which is synced first.
pub const SMALL_APPEND_BYTES_MAX: usize = 128 << 10;
/// Chunks named in the record itself; beyond, they move into manifest pages.
pub const CHUNKS_INLINE_MAX: usize = 16;
/// Chunks (or parts) in one manifest page.
pub const MANIFEST_PAGE_ENTRIES: usize = 512;

/// Commands decided in one batch.
pub const BATCH_COMMANDS_MAX: usize = 1024;
/// Row bytes of one batch, past which the next command waits for the next batch.
pub const BATCH_FILL_BYTES: usize = 2 << 20;
/// Row bytes that the commands of one batch may write; one command past it is refused.
pub const COMMAND_BYTES_MAX: usize = 7 << 20;
/// Row bytes of one step of a command that is done in several commits.
pub const STEP_BYTES_MAX: usize = 1 << 20;
/// How long a completion that stopped between its steps keeps out those of lower command ids.
pub const LAYING_MS_MAX: u64 = 60_000;
/// Bookings that one command forgets.
pub const FORGET_ROWS_MAX: usize = 512;
/// Needles that the index is asked about at once.
pub const DOUBTS_MAX: usize = 512;
/// Chunks past which a page of garbage ends.
pub const GARBAGE_PAGE_CHUNKS: usize = 4096;
/// Answers kept for commands whose session has not yet said that it has them.
pub const DONE_ROWS_MAX: usize = 1 << 16;
/// Bytes of rows that one partition keeps in memory, at most.
pub const ROW_CACHE_BYTES_MAX: usize = 64 << 20;
/// Largest object: 5 TiB (S3 until 2025).
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;
/// Commands waiting for an owner; past it they are refused as busy.
pub const OWNER_QUEUE_MAX: usize = 4096;
/// Rows of one batch together, as `store::Batch::bytes` counts them.
pub const BATCH_BYTES_MAX: usize = (7 << 20) + (512 << 10);
/// Longest row key: an escaped object key, its bucket and its table's prefix fit twice over.
pub const ROW_KEY_BYTES_MAX: usize = 4096;
/// Rows of one store scan.
pub const SCAN_ROWS_MAX: usize = 1024;
/// Rows of one partition in memory that wait to be written behind; as much again may collect while they are written.
pub const WRITE_BEHIND_BYTES: usize = 16 << 20;
/// How long nothing may come until what is in memory of the index is written behind.
pub const WRITE_BEHIND_REST_MS: u64 = 10_000;
/// Rows written behind in one transaction.
pub const WRITE_BEHIND_STEP_BYTES: usize = 4 << 20;
/// Longest that a commit is held back while rows come faster than they are written behind.
pub const WRITE_BEHIND_PAUSE_MS_MAX: u64 = 50;
/// Pages of one partition's index file in memory, at most; what lies over it has as much again together.
pub const INDEX_CACHE_BYTES_MAX: usize = 64 << 20;
/// How long a page of the index that the device refused is refused to readers without asking it again, at least.
pub const INDEX_REFUSED_MS: u64 = 5_000;
/// And at most, however long the device took to say no.
pub const INDEX_REFUSED_MS_MAX: u64 = 60_000;
/// How long whoever copies an index past damage waits before it asks the device again for what it did not give.
pub const PAST_DAMAGE_PAUSE_MS: u64 = 1_000;
/// How often it does so in one copy.
pub const PAST_DAMAGE_PAUSES_MAX: usize = 120;
/// A partition whose files were read no more often than this between two looks, twice in a row, is at rest.
pub const INDEX_REST_READS_MAX: u64 = 50;
/// What of its files' pages may stay in memory then.
pub const INDEX_REST_BYTES: u64 = 4 << 20;
/// Rows that one moment of a partition's files remembers that listings leapt to.
pub const LEAPS_BYTES_MAX: usize = 8 << 20;
/// Such rows taken for a listing at once.
pub const LEAPS_AT_ONCE: usize = 64;
/// Index files of one partition: a new one is begun over those in which a page that must be written anew is bad.
pub const INDEX_FILES_MAX: u16 = 8;
/// How long after an index file could not be opened anew that is tried again for readers.
pub const INDEX_REOPEN_MS: u64 = 1000;
/// Partitions waiting to be written behind.
pub const WRITE_BEHIND_QUEUE_MAX: usize = 1024;
/// Jobs waiting for one disk.
pub const DISK_QUEUE_MAX: usize = 4096;
/// Open extents that one gateway writes at once, at most.
pub const OPEN_EXTENTS_MAX: usize = 16;
/// Tries of one command or chunk before the caller hears of it.
pub const RETRIES_MAX: u32 = 4;

/// Connections to the operator's socket at once.
pub const SOCKET_CONNECTIONS_MAX: usize = 16;
/// How long an operator's request may take to come in.
pub const OPERATOR_REQUEST_MS_MAX: u64 = 10_000;
/// Body of an operator's request.
pub const OPERATOR_REQUEST_BYTES_MAX: usize = 64 << 10;
/// An operator's answer that is read at once: a line an extent is the longest.
pub const OPERATOR_ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long an operator's client may take nothing of an answer, and the server may be silent.
pub const OPERATOR_STALL_MS_MAX: u64 = 60_000;
/// Deadline of one call from role to role, unless the call says otherwise.
pub const CALL_MS_MAX: u64 = 30_000;
/// A request waits so long for another one that changes the same bucket.
pub const BUCKET_TURN_MS_MAX: u64 = 10_000;
/// How long an owner may take to say that it serves before it is not ready.
pub const SERVING_MS_MAX: u64 = 5_000;
/// How long a synced record may stand last in the journal before a mark names its sync.
pub const SYNC_MARK_MS: u64 = 100;

/// When a client that was told to slow down may come again.
pub const RETRY_AFTER_SECONDS: u64 = 1;
/// How long a request waits for its share of a budget of memory before it is told to slow down.
pub const BUDGET_WAIT_MS_MAX: u64 = 10_000;
/// Requests of one kind that wait for shares of one budget; more are told to slow down at once.
pub const BUDGET_WAITING_MAX: usize = 4096;

/// How often the samples of histograms are folded into their sums.
pub const METRICS_FOLD_MS: u64 = 5_000;

/// Block that journal groups begin at.
pub const JOURNAL_BLOCK_BYTES: usize = 4096;
/// Largest payload of one journal record.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 8 << 20;
/// Bytes of one journal group, unless a single record is longer.
pub const JOURNAL_GROUP_BYTES_MAX: u64 = 4 << 20;
/// Bytes of needles waiting in a journal's queue; batches may wait up to twice that, so that names are not starved by bytes.
pub const JOURNAL_QUEUE_BYTES_MAX: usize = 16 << 20;
/// Bytes of ordered appends in a journal's queue that are written without waiting for a record that asks for the sync.
pub const JOURNAL_LAZY_BYTES_MAX: usize = 4 << 20;
/// Microseconds that a group may take on average to be written on the thread that queued it, which serves clients: to wake another and be woken
/// takes a tenth of it, on virtual machines a third. Where syncs take longer they are the journal's own thread's.
pub const JOURNAL_DRIVE_US_MAX: u64 = 1_000;
/// Bytes that are zero in front of the head of a journal in its first lap: at least, and as many as were written since it was opened, up to the most.
pub const JOURNAL_ZEROED_BYTES_MIN: u64 = 2 << 20;
/// See [`JOURNAL_ZEROED_BYTES_MIN`].
pub const JOURNAL_ZEROED_BYTES_MAX: u64 = 64 << 20;
/// Bytes queued for the journal past which its own thread writes them.
pub const JOURNAL_DRIVE_BYTES_MAX: usize = 512 << 10;
/// Smallest journal that the size of a disk leads to: the largest record always finds room in it.
pub const JOURNAL_BYTES_MIN: u64 = 24 << 20;
/// Appends of an open extent that a retry finds again.
pub const RECENT_APPENDS_MAX: usize = 256;
/// Needles that `cairn check` compares at once.
pub const CHECK_NEEDLES_MAX: u64 = 1 << 21;
/// Lines of one kind that a rebuild of an index prints; all are counted.
pub const REBUILD_LINES_MAX: usize = 1000;
/// Needles of one disk whose places are remembered because their hints did not lead to them.
pub const PLACES_MAX: usize = 16 << 10;
/// Bytes that one page of a walk reads before it ends.
pub const WALK_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a sealed extent that are read at once to make its needle map.
pub const MAP_STEP_BYTES: u64 = 1 << 20;
/// Bytes that a compaction copies before it lets others have the disk.
pub const COMPACT_STEP_BYTES: usize = 1 << 20;
/// Files of sealed extents kept open.
pub const OPEN_FILES_MAX: usize = 512;
/// Jobs waiting for one of a disk's I/O loops; a caller waits where there are so many.
pub const DISK_LOOP_QUEUE_MAX: usize = 64;

/// Needles of an extent in one page of those that may go (docs/formats/rows.md).
pub const DROPPED_PAGE_NEEDLES: u64 = 4096;
/// Needles booked as such that may go by one call.
pub const DROP_NEEDLES_MAX: usize = 16 << 10;
/// Pages of booked needles that one commit of the control plane writes.
pub const DROPPED_PAGES_MAX: usize = 512;
/// Needles that a gateway gave up and has not told gc of; more are found when their extents are walked.
pub const ABANDONED_MAX: usize = 4096;
/// Bookings of garbage that gc reads at once.
pub const GC_PAGE_ROWS: usize = 512;
/// How often gc looks at how much room the disks have.
pub const GC_LOOK_MS: u64 = 1_000;
/// How long gc waits for readers that have not said yet what they read.
pub const GC_READERS_WAIT_MS: u64 = 1_000;
/// How long a compaction may stand still before gc gives it up. As long as it goes on it has no deadline: what is begun anew after one
/// would never come to its end on a slow disk.
pub const GC_COMPACTION_STALL_MS_MAX: u64 = 5 * 60_000;
/// How long a write that met a full disk waits in all for gc to make room: well below the patience of any client.
pub const ROOM_WAIT_MS_MAX: u64 = 5_000;
/// Uploads that gc watches at one time for whether anybody works on them; the others wait for their turn.
pub const IDLE_UPLOADS_WATCHED_MAX: usize = 16 << 10;
/// Who may hold reclaim at one time, and how long a name or a reason may be.
pub const HOLDS_MAX: usize = 16;
pub const HOLD_TEXT_BYTES_MAX: usize = 1024;
/// Share of time that the scrub takes, however late it is.
pub const SCRUB_SHARE_PERCENT: u32 = 10;
/// Needles that the scrub reads at once.
pub const SCRUB_PAGE_NEEDLES: usize = 64;
/// How often the scrub keeps how far it has come.
pub const SCRUB_KEEP_MS: u64 = 60_000;
/// Longest time that a scrub waits for what stands beside extents on a disk: a whole journal is read.
pub const SCRUB_FRAME_MS_MAX: u64 = 10 * 60_000;
/// Findings of a pass that are kept in words; all are counted.
pub const SCRUB_FINDINGS_MAX: usize = 64;
/// Needles that one generation of an extent drops.
pub const GENERATION_NEEDLES_MAX: u64 = 1 << 20;

const _: () = assert!(
    DROPPED_PAGES_MAX as u64 * DROPPED_PAGE_NEEDLES * 2 <= BATCH_BYTES_MAX as u64,
    "pages of which each run takes two bytes fit one commit"
);
const _: () = assert!(
    GENERATION_NEEDLES_MAX * 3 <= BATCH_BYTES_MAX as u64 / 2,
    "a decision fits one commit"
);
const _: () = assert!(
    DESCRIPTORS_KEPT >= OPEN_FILES_MAX + 2 * OPEN_EXTENTS_MAX + 128,
    "the disks have descriptors for all files they keep open"
);
const _: () = assert!(
    CONNECTION_READ_BYTES_MAX > HEAD_BYTES_MAX && HEAD_USUAL_BYTES < CONNECTION_AWAKE_BYTES,
    "a connection can read the largest head that is served"
);
const _: () = assert!(
    FRAME_BYTES_MAX.is_multiple_of(BLOCK_BYTES),
    "a frame is whole blocks"
);
const _: () = assert!(
    CHUNK_BYTES_MAX.is_multiple_of(FRAME_BYTES_MAX as u64),
    "a full chunk is whole frames"
);
const _: () = assert!(
    SMALL_APPEND_BYTES_MAX <= FRAME_BYTES_MAX,
    "a small append is one frame"
);
const _: () = assert!(
    SMALL_APPEND_BYTES_MAX + (64 << 10) <= JOURNAL_RECORD_BYTES_MAX,
    "a small needle fits one journal record"
);
const _: () = assert!(
    COMMAND_BYTES_MAX + (512 << 10) <= BATCH_BYTES_MAX,
    "commands' rows leave room for the partition's own in one batch of the store"
);
const _: () = assert!(
    INLINE_BYTES_MAX < SMALL_APPEND_BYTES_MAX,
    "inline is the smallest class"
);
const _: () = assert!(
    list_rows_at_once(LIST_KEYS_MAX) <= SCAN_ROWS_MAX && LIST_KEYS_MAX as usize <= SCAN_ROWS_MAX,
    "a page of a listing is one scan"
);
const _: () = assert!(
    BATCH_BYTES_MAX + (64 << 10) <= JOURNAL_RECORD_BYTES_MAX,
    "a batch fits one journal record"
);
const _: () = assert!(
    ROW_KEY_BYTES_MAX >= 2 * OBJECT_KEY_BYTES_MAX + 64,
    "every object key makes a row key"
);
const _: () = assert!(
    JOURNAL_BYTES_MIN / 8 * 3 > JOURNAL_RECORD_BYTES_MAX as u64 + (64 << 10),
    "the smallest journal takes the largest record"
);
