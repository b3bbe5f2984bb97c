//! Bodies in frames and forms: the same however they are cut, by a second reading of the framing, and changed nowhere unseen.

use super::aws_chunked::Frames;
use super::form;
use super::plan::BodyPlan;
use super::{BodyRefusal, ChunkSigning};
use auth::{AccessKey, AccessKeyId, Fields, PayloadMode, SecretKey, signer};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::StreamBody;
use objects::Body as _;
use std::sync::Arc;
use types::limits::{AWS_CHUNK_BYTES_MIN, AWS_CHUNK_LINE_BYTES_MAX, FORM_FIELDS_BYTES_MAX, FORM_FIELDS_MAX};
use types::{AccountId, Checksum};
use world::real::RealClock;

const MODES: [PayloadMode; 3] = [
    PayloadMode::UnsignedFramesTrailer,
    PayloadMode::SignedFrames,
    PayloadMode::SignedFramesTrailer,
];
const TRAILER: &str = "x-amz-checksum-crc32";

/// What came out, and how it ended.
type Outcome = (Vec<u8>, Result<Vec<Checksum>, BodyRefusal>);

/// Four bytes say how the rest is read: as it stands on the connection, or as an object that is framed here, cut and damaged.
pub fn aws_chunked(data: &[u8]) {
    let Some((how, bytes)) = data.split_first_chunk::<4>() else {
        return;
    };
    let plan = plan(
        MODES[usize::from(how[0]) % 3],
        u64::from(how[1]) | u64::from(how[2]) << 8,
    );
    if how[0] & 0x80 == 0 {
        as_it_stands(&plan, bytes, how[3]);
    } else {
        framed(MODES[usize::from(how[0]) % 3], bytes, (how[1], how[2], how[3]));
    }
}

/// Framed bodies, whole, and what to make some of.
pub fn aws_chunked_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (n, mode) in MODES.into_iter().enumerate() {
        let object = vec![b'o'; 300];
        let wire = encode(&plan(mode, 300), &object, 8192);
        seeds.push([&[n as u8, 44, 1, 7], &wire[..]].concat());
        seeds.push([&[n as u8 | 0x80, 3, 1, 9], &object[..]].concat());
        seeds.push([&[n as u8 | 0x80, 200, 0, 0], &object[..100]].concat());
    }
    seeds.push(
        [
            &[0, 5, 0, 2],
            &b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\n\r\n\r\n"[..],
        ]
        .concat(),
    );
    // Its first frame is too short for another to follow.
    seeds.push(
        [
            &[0, 5, 0, 2],
            &b"3\r\nhel\r\n2\r\nlo\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"[..],
        ]
        .concat(),
    );
    seeds
}

fn plan(mode: PayloadMode, length: u64) -> BodyPlan {
    BodyPlan {
        mode,
        content_length: None,
        decoded_length: Some(length),
        trailer_names: if mode.trailer() {
            vec![TRAILER.to_owned()]
        } else {
            Vec::new()
        },
        signing: mode.signed_frames().then(signing),
        chunked: true,
    }
}

fn signing() -> ChunkSigning {
    let key = AccessKey {
        id: AccessKeyId("key".into()),
        secret: SecretKey("secret".into()),
        account: AccountId::ROOT,
    };
    let request = http::Request::put("/b/k")
        .header("host", "h")
        .body(())
        .expect("a request");
    let mut head = request.into_parts().0;
    signer::sign(
        &mut head,
        &key,
        "us-east-1",
        1_369_353_600_000,
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    )
    .expect("it can be signed")
}

/// Reads `wire` in pieces, whose sizes `cut` makes; 0: in one.
fn read(plan: &BodyPlan, wire: &[u8], cut: u8) -> Outcome {
    let mut frames = Frames::new(plan, plan.decoded_length.unwrap_or(0));
    let (mut out, mut rest, mut size) = (Vec::new(), Bytes::copy_from_slice(wire), usize::from(cut));
    while !rest.is_empty() {
        let mut piece = if cut == 0 {
            rest.split_off(0)
        } else {
            rest.split_to(size.clamp(1, rest.len()))
        };
        size = (size * 7 + usize::from(cut)) % 61;
        loop {
            match frames.pull(&mut piece) {
                Ok(Some(bytes)) => {
                    assert!(!bytes.is_empty(), "a piece of nothing");
                    out.extend_from_slice(&bytes);
                }
                Ok(None) => break,
                Err(refusal) => return (out, Err(refusal)),
            }
        }
        assert!(piece.is_empty(), "bytes left behind");
    }
    let end = frames.finish().map(|()| frames.checksums());
    (out, end)
}

fn as_it_stands(plan: &BodyPlan, wire: &[u8], cut: u8) {
    let (whole, end) = read(plan, wire, 0);
    for cut in [1, cut] {
        let (pieces, end_of_pieces) = read(plan, wire, cut);
        assert_eq!(end, end_of_pieces, "cut by {cut}");
        // Before a refusal it depends on the cuts how much of a frame has been handed on.
        assert!(pieces.starts_with(&whole) || (end.is_err() && whole.starts_with(&pieces)));
        assert!(end.is_err() || pieces.len() == whole.len());
    }
    assert!(whole.len() as u64 <= plan.decoded_length.unwrap_or(0));
    if !plan.mode.signed_frames() {
        let taken = end.ok().map(|checksums| (whole, checksums[0].value.clone()));
        assert_eq!(
            taken,
            second_reading(wire, plan.decoded_length.unwrap_or(0) as usize)
        );
    }
}

/// The object and its checksum from an unsigned body that has come whole; `None` for what is refused.
fn second_reading(wire: &[u8], length: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut object, mut rest, mut last) = (Vec::new(), wire, None);
    loop {
        let line = line(&mut rest)?;
        let size = std::str::from_utf8(line)
            .ok()
            .filter(|s| (1..=16).contains(&s.len()) && !s.starts_with('+'))?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            break;
        }
        if last.is_some_and(|last: usize| (last as u64) < AWS_CHUNK_BYTES_MIN) {
            return None;
        }
        last = Some(size);
        object.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    let mut checksum = None;
    loop {
        let line = line(&mut rest)?;
        if line.is_empty() {
            break;
        }
        let text = std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(line)).ok()?;
        let (name, value) = text.split_once(':')?;
        if text.contains(['\r', '\n']) || !name.eq_ignore_ascii_case(TRAILER) || checksum.is_some() {
            return None;
        }
        checksum = Some(
            BASE64
                .decode(value.trim_matches([' ', '\t']))
                .ok()
                .filter(|v| v.len() == 4)?,
        );
    }
    (rest.is_empty() && object.len() == length).then_some((object, checksum?))
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let at = rest.windows(2).position(|two| two == b"\r\n")?;
    let line = &rest[..at];
    *rest = &rest[at + 2..];
    (at + 2 <= AWS_CHUNK_LINE_BYTES_MAX).then_some(line)
}

/// Frames an object as clients do: however it is cut, it comes back, and no byte of it can be changed.
fn framed(mode: PayloadMode, seed: &[u8], (times, frame, cut): (u8, u8, u8)) {
    let object = seed.repeat(1 + usize::from(times) * 8);
    let object = &object[..object.len().min(40_000)];
    let plan = plan(mode, object.len() as u64);
    let frame_bytes = AWS_CHUNK_BYTES_MIN as usize + 64 * usize::from(frame);
    let mut wire = encode(&plan, object, frame_bytes);
    for cut in [0, cut] {
        let (bytes, end) = read(&plan, &wire, cut);
        assert_eq!(
            end.map(|checksums| checksums.len()),
            Ok(usize::from(mode.trailer()))
        );
        assert_eq!(bytes, object);
    }
    let at = (usize::from(times) * 131 + usize::from(cut) * 257 + seed.len()) % wire.len();
    let short = read(&plan, &wire[..at], cut);
    assert!(
        short.1.is_err(),
        "the first {at} of {} bytes are taken for all",
        wire.len()
    );
    wire[at] ^= 1 << (frame % 8);
    let (bytes, end) = read(&plan, &wire, cut);
    if mode.signed_frames() && end.is_ok() {
        assert_eq!(bytes, object, "a byte at {at} changed under its signature");
    }
}

fn encode(plan: &BodyPlan, object: &[u8], frame_bytes: usize) -> Vec<u8> {
    let mut signing = plan.signing.clone();
    let mut out = Vec::new();
    for frame in object.chunks(frame_bytes).chain([&[][..]]) {
        let extension = signing.as_mut().map_or(String::new(), |signing| {
            format!(
                ";chunk-signature={}",
                signing.frame(digest(&SHA256, frame).as_ref()).as_str()
            )
        });
        out.extend(format!("{:x}{extension}\r\n", frame.len()).bytes());
        out.extend_from_slice(frame);
        if !frame.is_empty() {
            out.extend(b"\r\n");
        }
    }
    if plan.mode.trailer() {
        out.extend(format!("{TRAILER}:AAAAAQ==\r\n").bytes());
        if let Some(signing) = &mut signing {
            let signature = signing.trailer(format!("{TRAILER}:AAAAAQ==\n").as_bytes());
            out.extend(format!("x-amz-trailer-signature:{}\r\n", signature.as_str()).bytes());
        }
    }
    out.extend(b"\r\n");
    out
}

/// The first byte cuts what follows, a form whose boundary is `XX`.
pub fn post_form(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else {
        return;
    };
    let whole = read_form(bytes, bytes.len().max(1));
    for size in [1, usize::from(*cut).max(1)] {
        assert_eq!(whole, read_form(bytes, size), "cut by {size}");
    }
    if let Ok((fields, _, file)) = whole {
        assert!(fields.len() <= FORM_FIELDS_MAX);
        let told: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(told <= FORM_FIELDS_BYTES_MAX, "{told} bytes of fields");
        assert!(
            !file.windows(6).any(|w| w == b"\r\n--XX"),
            "a boundary in the file"
        );
    }
    let content_type = String::from_utf8_lossy(bytes);
    if let Some(boundary) = form::boundary(&content_type) {
        assert!((1..=70).contains(&boundary.len()));
    }
}

/// Forms as browsers send them.
pub fn post_form_seeds() -> Vec<Vec<u8>> {
    let field = "--XX\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\nk/${filename}\r\n";
    let file = "--XX \r\nContent-Type: text/plain\r\nContent-Disposition: form-data; name=file; filename=\"dir\\\\a%22\"\r\n\r\nbytes\r\n--X\r\n";
    let extended =
        "--XX\r\ncontent-disposition: form-data; name=file; filename*=utf-8''na%C3%AFve\r\n\r\n\r\n";
    [
        format!("{field}{file}--XX--\r\n"),
        format!("{file}{field}--XX--"),
        format!("{field}{field}{extended}--XX--\r\n"),
        format!("{field}--XX--\r\n"),
        "multipart/form-data; charset=\"x\"; boundary=\"X X\"".to_owned(),
    ]
    .iter()
    .map(|text| [&[5], text.as_bytes()].concat())
    .collect()
}

type ReadForm = Result<(Fields, Option<String>, Vec<u8>), BodyRefusal>;

fn read_form(bytes: &[u8], size: usize) -> ReadForm {
    let pieces: Vec<_> = bytes
        .chunks(size)
        .map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let body = StreamBody::new(futures_util::stream::iter(pieces));
    let reading = async {
        let (form, file) = form::read("XX", bytes.len() as u64, body, Arc::new(RealClock::new())).await?;
        let (mut file, slot) = file.within((0, u64::MAX));
        let mut all = Vec::new();
        while let Some(piece) = file
            .next()
            .await
            .map_err(|_| slot.get().expect("a refusal says why"))?
        {
            all.extend_from_slice(&piece);
        }
        let size = all.len() as u64;
        assert!(
            size <= form.length_max && size + form.slack >= form.length_max,
            "it was said how long it can be"
        );
        Ok((form.fields, form.filename, all))
    };
    reading.now_or_never().expect("all of it is there")
}
