//! PutBucketCors, GetBucketCors, DeleteBucketCors. What the rules do is in `cors`.

use super::bucket_setting;
use crate::cors::METHODS;
use crate::error::{Code, Error};
use crate::reply::{self, Reply};
use crate::request::{Request, parse_document};
use crate::service::Service;
use crate::xml::{Element, XmlWriter};
use http::{HeaderName, StatusCode};
use types::limits::{CORS_BYTES_MAX, CORS_ID_CHARS_MAX, CORS_RULES_MAX};
use wire::index::SettingKind;
use wire::records::bucket_setting::Kind;
use wire::records::{CorsRule, CorsRules};

pub(super) async fn get(service: &Service, request: Request) -> Result<Reply, Error> {
    match bucket_setting::told(service, &request, SettingKind::Cors).await? {
        Some(Kind::Cors(rules)) => Ok(reply::xml(to_document(&rules))),
        _ => Err(Code::NoSuchCORSConfiguration.into()),
    }
}

pub(super) async fn put(service: &Service, mut request: Request) -> Result<Reply, Error> {
    let document = bucket_setting::document(service, &mut request).await?;
    let rules = Kind::Cors(from_document(&document)?);
    bucket_setting::tell(
        service,
        &request,
        (SettingKind::Cors, Some(rules)),
        StatusCode::OK,
    )
    .await
}

pub(super) async fn delete(service: &Service, request: Request) -> Result<Reply, Error> {
    let nothing = (SettingKind::Cors, None);
    bucket_setting::tell(service, &request, nothing, StatusCode::NO_CONTENT).await
}

fn invalid<T>(message: String) -> Result<T, Error> {
    Err(Error::with(Code::InvalidRequest, message))
}

pub(super) fn from_document(document: &[u8]) -> Result<CorsRules, Error> {
    if document.len() > CORS_BYTES_MAX {
        return Err(Error::new(Code::MaxMessageLengthExceeded)
            .field("MaxMessageLengthBytes", CORS_BYTES_MAX.to_string()));
    }
    let root = parse_document(document, "CORSConfiguration")?;
    if root.children().any(|(name, _)| name != "CORSRule") {
        return Err(Code::MalformedXML.into());
    }
    let rules: Vec<CorsRule> = root.all("CORSRule").map(rule).collect::<Result<_, _>>()?;
    match rules.len() {
        0 => Err(Code::MalformedXML.into()),
        n if n > CORS_RULES_MAX => invalid(format!(
            "The number of CORS rules should not exceed allowed limit of {CORS_RULES_MAX} rules."
        )),
        _ => Ok(CorsRules { rules }),
    }
}

const ELEMENTS: &[&str] = &[
    "ID",
    "AllowedMethod",
    "AllowedOrigin",
    "AllowedHeader",
    "ExposeHeader",
    "MaxAgeSeconds",
];

fn rule(element: &Element) -> Result<CorsRule, Error> {
    if element.children().any(|(name, _)| !ELEMENTS.contains(&name)) {
        return Err(Code::MalformedXML.into());
    }
    let all = |name| element.all(name).map(|e| e.text().to_owned()).collect::<Vec<_>>();
    let seconds = element
        .one("MaxAgeSeconds")?
        .map(|e| e.text().trim().parse::<u32>());
    let rule = CorsRule {
        id: element
            .one("ID")?
            .map(Element::text)
            .unwrap_or_default()
            .to_owned(),
        allowed_methods: all("AllowedMethod"),
        allowed_origins: all("AllowedOrigin"),
        allowed_headers: all("AllowedHeader"),
        expose_headers: all("ExposeHeader"),
        max_age_seconds: seconds.transpose().map_err(|_| Code::MalformedXML)?,
    };
    check(&rule)?;
    Ok(rule)
}

fn check(rule: &CorsRule) -> Result<(), Error> {
    if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
        return Err(Code::MalformedXML.into());
    }
    if let Some(other) = rule
        .allowed_methods
        .iter()
        .find(|m| !METHODS.contains(&m.as_str()))
    {
        return invalid(format!(
            "Found unsupported HTTP method in CORS config. Unsupported method is {other}"
        ));
    }
    if rule.id.chars().count() > CORS_ID_CHARS_MAX {
        return invalid(format!(
            "The ID of a CORS rule should not exceed allowed limit of {CORS_ID_CHARS_MAX} characters."
        ));
    }
    let wild = |texts: &[String]| texts.iter().find(|t| t.matches('*').count() > 1).cloned();
    if let Some(origin) = wild(&rule.allowed_origins) {
        return invalid(format!(
            "AllowedOrigin \"{origin}\" can not have more than one wildcard."
        ));
    }
    if let Some(header) = wild(&rule.allowed_headers) {
        return invalid(format!(
            "AllowedHeader \"{header}\" can not have more than one wildcard."
        ));
    }
    for header in &rule.expose_headers {
        if header.contains('*') {
            return invalid(format!(
                "ExposeHeader \"{header}\" contains wildcard. We currently do not support wildcard for ExposeHeader."
            ));
        }
        // It will stand in answers: nothing but a name may.
        if HeaderName::try_from(header).is_err() {
            return invalid(format!("ExposeHeader \"{header}\" contains invalid character."));
        }
    }
    Ok(())
}

pub(super) fn to_document(rules: &CorsRules) -> String {
    let mut x = XmlWriter::document();
    x.root("CORSConfiguration");
    for rule in &rules.rules {
        x.open("CORSRule");
        if !rule.id.is_empty() {
            x.text("ID", &rule.id);
        }
        for (name, texts) in [
            ("AllowedMethod", &rule.allowed_methods),
            ("AllowedOrigin", &rule.allowed_origins),
            ("AllowedHeader", &rule.allowed_headers),
            ("ExposeHeader", &rule.expose_headers),
        ] {
            texts.iter().for_each(|text| x.text(name, text));
        }
        if let Some(seconds) = rule.max_age_seconds {
            x.value("MaxAgeSeconds", seconds);
        }
        x.close("CORSRule");
    }
    x.close("CORSConfiguration");
    x.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rules: &str) -> Result<CorsRules, Code> {
        let document = format!("<CORSConfiguration>{rules}</CORSConfiguration>");
        from_document(document.as_bytes()).map_err(|e| e.code())
    }

    #[test]
    fn what_is_put_comes_back() {
        let rules = read(
            "<CORSRule><ID>one</ID><AllowedOrigin>https://*.a</AllowedOrigin><AllowedOrigin/><AllowedMethod>GET\
             </AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-AMZ-*</AllowedHeader><ExposeHeader>ETag\
             </ExposeHeader><MaxAgeSeconds>0</MaxAgeSeconds></CORSRule><CORSRule><AllowedOrigin>*</AllowedOrigin>\
             <AllowedMethod>HEAD</AllowedMethod></CORSRule>",
        )
        .unwrap();
        assert_eq!(rules.rules.len(), 2);
        assert_eq!(rules.rules[0].max_age_seconds, Some(0));
        assert_eq!(rules.rules[0].allowed_origins, ["https://*.a", ""]);
        assert_eq!(from_document(to_document(&rules).as_bytes()).unwrap(), rules);
    }

    #[test]
    fn refusals() {
        let least = "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";
        let of = |more: &str| format!("<CORSRule>{least}{more}</CORSRule>");
        let header = |name: &str, text: &str| of(&format!("<{name}>{text}</{name}>"));
        let cases = [
            (of(""), None),
            (of("").repeat(CORS_RULES_MAX), None),
            (of("").repeat(CORS_RULES_MAX + 1), Some(Code::InvalidRequest)),
            (String::new(), Some(Code::MalformedXML)),
            ("<Rule/>".into(), Some(Code::MalformedXML)),
            ("<CORSRule/>".into(), Some(Code::MalformedXML)),
            (header("Unknown", "x"), Some(Code::MalformedXML)),
            (header("MaxAgeSeconds", "-1"), Some(Code::MalformedXML)),
            (header("MaxAgeSeconds", "1h"), Some(Code::MalformedXML)),
            (header("AllowedMethod", "OPTIONS"), Some(Code::InvalidRequest)),
            (header("AllowedMethod", "get"), Some(Code::InvalidRequest)),
            (header("AllowedOrigin", "http://*.*"), Some(Code::InvalidRequest)),
            (header("AllowedHeader", "*-*"), Some(Code::InvalidRequest)),
            (header("ExposeHeader", "x-*"), Some(Code::InvalidRequest)),
            (header("ExposeHeader", "x y"), Some(Code::InvalidRequest)),
            (header("ID", &"i".repeat(CORS_ID_CHARS_MAX)), None),
            (
                header("ID", &"i".repeat(CORS_ID_CHARS_MAX + 1)),
                Some(Code::InvalidRequest),
            ),
            (
                header("ID", &"i".repeat(CORS_BYTES_MAX)),
                Some(Code::MaxMessageLengthExceeded),
            ),
        ];
        for (rules, code) in cases {
            assert_eq!(read(&rules).err(), code, "{rules:.200}");
        }
        assert_eq!(
            from_document(b"").map_err(|e| e.code()),
            Err(Code::MissingRequestBodyError)
        );
    }
}
