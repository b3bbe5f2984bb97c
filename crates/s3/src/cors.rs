//! Cross-origin resource sharing: which web pages a bucket's rules let use it, and what answers say of it.
//!
//! The rules are tried in their order and the first that fits decides; what it says stands on every answer to a request
//! with an Origin, errors too, since a page that may not read an error cannot tell what is wrong. Without a fitting rule
//! an answer says nothing, and a preflight is refused.
//!
//! Nobody is known when a browser asks, so it costs little whatever it names: at most `CORS_HEADERS_ASKED_MAX` headers, each held against
//! the patterns of a document of `CORS_BYTES_MAX` without making anything anew.

use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::service::Service;
use crate::target::Target;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use types::BucketName;
use types::limits::{CORS_HEADERS_ASKED_BYTES_MAX, CORS_HEADERS_ASKED_MAX};
use wire::index::SettingKind;
use wire::records::bucket_setting::Kind;
use wire::records::{CorsRule, CorsRules};

/// Methods that rules can name (S3).
pub(crate) const METHODS: &[&str] = &["GET", "PUT", "POST", "DELETE", "HEAD"];
/// What the choice of a rule looks at: caches must keep answers to different ones apart.
const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// What a page in a browser asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asking {
    origin: String,
    /// Of the request, or of the one that a preflight is about.
    method: String,
    /// Header names that the coming request will have, in lower case, each once; `None`: more than may be.
    headers: Option<Vec<String>>,
}

impl Asking {
    /// From a request's head; `None` when no page asks.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        let origin = text(header::ORIGIN).filter(|o| !o.is_empty())?.to_owned();
        let method = text(header::ACCESS_CONTROL_REQUEST_METHOD).unwrap_or(method.as_str());
        Some(Self {
            origin,
            method: method.to_owned(),
            headers: names_asked(headers),
        })
    }
}

fn names_asked(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let values = || headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    // The head is not judged yet: one of nothing but names would be compared with the first hundred of them millions of times.
    if values().map(|v| v.len()).sum::<usize>() > CORS_HEADERS_ASKED_BYTES_MAX {
        return None;
    }
    let asked = values()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    for name in asked.map(str::trim).filter(|n| !n.is_empty()) {
        if names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            continue;
        }
        if names.len() == CORS_HEADERS_ASKED_MAX {
            return None;
        }
        names.push(name.to_ascii_lowercase());
    }
    Some(names)
}

/// Whether a header's name is `pattern`, in which one `*` stands for anything, whatever the case.
fn fits_name(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    match pattern.iter().position(|b| *b == b'*') {
        None => pattern.eq_ignore_ascii_case(name),
        Some(star) => {
            let (head, tail) = (&pattern[..star], &pattern[star + 1..]);
            name.len() >= head.len() + tail.len()
                && name[..head.len()].eq_ignore_ascii_case(head)
                && name[name.len() - tail.len()..].eq_ignore_ascii_case(tail)
        }
    }
}

/// Whether `text` is `pattern`, in which one `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

/// The first rule that fits, and what its origin is shown as.
fn find<'a>(rules: &'a CorsRules, asking: &Asking) -> Option<(&'a CorsRule, &'a str)> {
    let names = asking.headers.as_ref()?;
    rules.rules.iter().find_map(|rule| {
        let origin = rule.allowed_origins.iter().find(|o| fits(o, &asking.origin))?;
        let allowed = |name: &String| rule.allowed_headers.iter().any(|p| fits_name(p, name));
        let method = rule.allowed_methods.contains(&asking.method);
        (method && names.iter().all(allowed)).then_some((rule, origin.as_str()))
    })
}

/// Says on an answer what a rule allows.
fn say(out: &mut HeaderMap, (rule, origin): (&CorsRule, &str), asking: &Asking) {
    out.insert(header::VARY, HeaderValue::from_static(VARY));
    // All of it is text that came as headers, or was checked when the rule was written; what is not is left out.
    let mut set = |name: header::HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            out.insert(name, value);
        }
    };
    if origin == "*" {
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*".into());
    } else {
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, asking.origin.clone());
        set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".into());
    }
    set(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        rule.allowed_methods.join(", "),
    );
    if let Some(names) = asking.headers.as_ref().filter(|names| !names.is_empty()) {
        set(header::ACCESS_CONTROL_ALLOW_HEADERS, names.join(", "));
    }
    if !rule.expose_headers.is_empty() {
        set(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            rule.expose_headers.join(", "),
        );
    }
    if let Some(seconds) = rule.max_age_seconds {
        set(header::ACCESS_CONTROL_MAX_AGE, seconds.to_string());
    }
}

async fn rules(service: &Service, bucket: &BucketName) -> Result<Option<CorsRules>, Error> {
    let setting = service
        .objects
        .bucket_setting_for_anyone(bucket, SettingKind::Cors)
        .await?;
    Ok(match setting.and_then(|s| s.kind) {
        Some(Kind::Cors(rules)) => Some(rules),
        _ => None,
    })
}

/// Says on an answer what the page that asked may do with it.
pub(crate) async fn decorate(service: &Service, target: &Target, asking: &Asking, reply: &mut Reply) {
    let Ok(Some(bucket)) = target.bucket_name() else {
        return;
    };
    // Without the rules the page does not get to see the answer; the answer itself stands.
    let Ok(Some(rules)) = rules(service, &bucket).await else {
        return;
    };
    if let Some(found) = find(&rules, asking) {
        say(reply.headers_mut(), found, asking);
    }
}

/// Answers `OPTIONS`: what a browser asks on its own account, unsigned, before it lets a page send the request.
///
/// # Errors
/// BadRequest without an Origin or a method, AccessForbidden where no rule fits.
pub(crate) async fn preflight(
    service: &Service,
    target: &Target,
    headers: &HeaderMap,
) -> Result<Reply, Error> {
    let Some(asking) = Asking::of(&Method::OPTIONS, headers) else {
        let message = "Insufficient information. Origin request header needed.";
        return Err(Error::with(Code::BadRequest, message));
    };
    let forbidden = |message: &'static str| {
        let kind = if target.key.is_some() { "OBJECT" } else { "BUCKET" };
        Error::with(Code::AccessForbidden, message)
            .field("Method", &asking.method)
            .field("ResourceType", kind)
    };
    let not_found = || forbidden("CORSResponse: Bucket not found");
    let bucket = target.bucket_name().ok().flatten().ok_or_else(not_found)?;
    let rules = match rules(service, &bucket).await {
        Err(e) if e.code() == Code::NoSuchBucket => return Err(not_found()),
        rules => rules?,
    };
    let rules = rules.ok_or_else(|| forbidden("CORSResponse: CORS is not enabled for this bucket."))?;
    let method = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !METHODS.contains(&asking.method.as_str()) {
        let named = method.map_or("null", |m| m.to_str().unwrap_or("\u{fffd}"));
        let message = format!("Invalid Access-Control-Request-Method: {named}");
        return Err(Error::with(Code::BadRequest, message));
    }
    let found = find(&rules, &asking).ok_or_else(|| {
        forbidden(
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request \
             method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the \
             resource's CORS spec.",
        )
    })?;
    let mut reply = reply::empty(StatusCode::OK);
    say(reply.headers_mut(), found, &asking);
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn rule(methods: &[&str], origins: &[&str], headers: &[&str]) -> CorsRule {
        let all = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        CorsRule {
            allowed_methods: all(methods),
            allowed_origins: all(origins),
            allowed_headers: all(headers),
            ..CorsRule::default()
        }
    }

    fn asking(method: &str, origin: &str, headers: &str) -> Asking {
        let map: HeaderMap = [
            (header::ORIGIN, origin),
            (header::ACCESS_CONTROL_REQUEST_METHOD, method),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, headers),
        ]
        .into_iter()
        .map(|(n, v): (HeaderName, &str)| (n, v.parse().unwrap()))
        .collect();
        Asking::of(&Method::OPTIONS, &map).unwrap()
    }

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "https://a", true),
            ("https://a", "https://a", true),
            ("https://a", "https://A", false),
            ("*suffix", "foo.suffix", true),
            ("*suffix", "foo.suffix.get", false),
            ("start*end", "startend", true),
            ("start*end", "start12end", true),
            ("start*end", "0start12end", false),
            ("prefix*", "prefix", true),
            ("prefix*", "bla.prefix", false),
            // What stands before the star and what stands after it do not share letters.
            ("ab*ba", "aba", false),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn names_have_no_case() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("X-Amz-*", "x-amz-date", true),
            ("x-amz-*", "x-am", false),
            ("*-Date", "x-amz-date", true),
            ("x-*-Date", "x-date", false),
            ("Content-Type", "content-type", true),
            ("content", "content-type", false),
        ] {
            assert_eq!(fits_name(pattern, name), expected, "{pattern} {name}");
        }
    }

    // I9: a browser's question comes unsigned.
    #[test]
    fn many_names_are_few_or_fit_nothing() {
        let rules = CorsRules {
            rules: vec![rule(&["GET"], &["*"], &["*"])],
        };
        let allowed = |headers: &str| {
            let asking = asking("GET", "https://a", headers);
            let mut out = HeaderMap::new();
            say(&mut out, find(&rules, &asking)?, &asking);
            Some(
                out[header::ACCESS_CONTROL_ALLOW_HEADERS]
                    .to_str()
                    .unwrap()
                    .to_owned(),
            )
        };
        assert_eq!(allowed(&"z,Z,".repeat(2_000)), Some("z".to_owned()));
        assert_eq!(allowed(&"z,Z,".repeat(3_000)), None, "past the bound on a head");
        let names = |n: usize| (0..n).map(|n| format!("x-{n},")).collect::<String>();
        assert!(allowed(&names(CORS_HEADERS_ASKED_MAX)).is_some());
        assert_eq!(allowed(&names(CORS_HEADERS_ASKED_MAX + 1)), None);
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = CorsRules {
            rules: vec![
                rule(&["GET"], &["https://a"], &[]),
                rule(
                    &["GET", "PUT"],
                    &["https://*.b", "*"],
                    &["x-amz-*", "Content-Type"],
                ),
            ],
        };
        let found = |method, origin, headers: &str| {
            let asking = asking(method, origin, headers);
            let (rule, origin) = find(&rules, &asking)?;
            let mut out = HeaderMap::new();
            say(&mut out, (rule, origin), &asking);
            let text = |name: &str| out.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
            let by = ["origin", "credentials", "methods", "headers"];
            Some(by.map(|n| text(&format!("access-control-allow-{n}"))).join(";"))
        };
        let is = |s: &str| Some(s.to_owned());
        assert_eq!(found("GET", "https://a", ""), is("https://a;true;GET;"));
        assert_eq!(
            found("GET", "https://a", "X-Amz-Date , content-TYPE"),
            is("*;;GET, PUT;x-amz-date, content-type")
        );
        assert_eq!(found("PUT", "https://x.b", ""), is("https://x.b;true;GET, PUT;"));
        assert_eq!(found("DELETE", "https://x.b", ""), None);
        assert_eq!(found("GET", "https://a", "authorization"), None);
    }
}
