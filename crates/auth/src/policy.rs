//! The policy of a POST form: what a form that carries it may say, for how long.
//!
//! ```text
//!   { "expiration": "2026-12-01T12:00:00.000Z",
//!     "conditions": [ {"acl": "private"},                     the field is exactly this
//!                     ["eq", "$acl", "private"],              the same
//!                     ["starts-with", "$key", "user/"],       the field begins so; "" lets it be anything
//!                     ["content-length-range", 0, 1048576] ] }  so many bytes in the file
//! ```
//! Reading and judging are pure. Invariants: every field of a form but those that carry the signature, the policy itself,
//! the file, its checksum, and names that begin with `x-ignore-` is named by a condition; every condition holds; a field that is not in
//! the form satisfies none. Field names are told apart without case, values and the policy's own words with it.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>

use crate::form::Fields;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Why a form is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// InvalidPolicyDocument: it is no policy.
    #[error("Invalid Policy: {0}")]
    Invalid(String),
    /// AccessDenied: it does not allow this form, or no longer.
    #[error("Invalid according to Policy: {0}")]
    Denied(String),
}

fn invalid<T>(what: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError::Invalid(what.into()))
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    expiration_ms: u64,
    conditions: Vec<Condition>,
    /// Fewest and most bytes of the file.
    length: (u64, u64),
}

/// What a field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    operator: Operator,
    /// As the policy writes it, with its `$`.
    field: String,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Eq,
    StartsWith,
    /// Of words that are no numbers: nothing is in such a range.
    ContentLengthRange,
}

impl Condition {
    /// The field's name in a form; `None` where the policy names none, as without the `$`: such a condition never holds.
    fn name(&self) -> Option<String> {
        if self.operator == Operator::ContentLengthRange {
            return None;
        }
        self.field.strip_prefix('$').map(str::to_ascii_lowercase)
    }

    fn holds(&self, fields: &Fields, bucket: &str) -> bool {
        let Some(name) = self.name() else {
            return false;
        };
        let given = if name == BUCKET {
            Some(bucket)
        } else {
            fields.get(&name).map(String::as_str)
        };
        given.is_some_and(|given| match self.operator {
            Operator::Eq => given == self.value,
            // Several types in one field are a list, and each of them must begin so.
            Operator::StartsWith if name == CONTENT_TYPE => given
                .split(',')
                .all(|one| one.trim_start().starts_with(&self.value)),
            Operator::StartsWith => given.starts_with(&self.value),
            Operator::ContentLengthRange => false,
        })
    }

    /// As S3 tells it.
    fn failed(&self) -> PolicyError {
        let operator = match self.operator {
            Operator::Eq => "eq",
            Operator::StartsWith => "starts-with",
            Operator::ContentLengthRange => "content-length-range",
        };
        let quoted = [operator, &self.field, &self.value].map(|s| Value::from(s).to_string());
        PolicyError::Denied(format!("Policy Condition failed: [{}]", quoted.join(", ")))
    }
}

/// Where the object goes is not a field of the form, but a policy must say it: it would hold for every bucket otherwise.
const BUCKET: &str = "bucket";
const CONTENT_TYPE: &str = "content-type";
/// What a policy cannot speak of: it stands in the form because of the policy.
const FREE: &[&str] = &["awsaccesskeyid", "file", "policy", "signature", "x-amz-signature"];
/// What nobody reads, and what can only refuse a file and never allow more.
const FREE_PREFIXES: &[&str] = &["x-ignore-", "x-amz-checksum-"];

impl Policy {
    /// Reads the `policy` field of a form.
    ///
    /// # Errors
    /// [`PolicyError::Invalid`].
    pub fn parse(base64: &str) -> Result<Self, PolicyError> {
        let Ok(json) = BASE64.decode(base64) else {
            return invalid("Invalid Base64 Encoding.");
        };
        let Ok(Value::Object(document)) = serde_json::from_slice(&json) else {
            return invalid("Invalid JSON.");
        };
        if let Some(other) = document
            .keys()
            .find(|k| !["expiration", "conditions"].contains(&k.as_str()))
        {
            return invalid(format!("Unexpected: '{other}'"));
        }
        let Some(expiration) = document.get("expiration") else {
            return invalid("Policy missing expiration.");
        };
        let Some(Value::Array(conditions)) = document.get("conditions") else {
            return invalid("Policy missing conditions.");
        };
        let mut policy = Self {
            expiration_ms: moment(expiration)?,
            conditions: Vec::with_capacity(conditions.len()),
            length: (0, u64::MAX),
        };
        for condition in conditions {
            match condition {
                Value::Object(simple) => policy.simple(simple)?,
                Value::Array(list) => policy.listed(list)?,
                _ => return invalid("Invalid Condition: a condition is an object or a list."),
            }
        }
        Ok(policy)
    }

    fn simple(&mut self, condition: &Map<String, Value>) -> Result<(), PolicyError> {
        let mut properties = condition.iter();
        let (Some((name, value)), None) = (properties.next(), properties.next()) else {
            return invalid(
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.",
            );
        };
        let Some(value) = text(value) else {
            return invalid("Invalid Simple-Condition: value must be a string.");
        };
        self.conditions.push(Condition {
            operator: Operator::Eq,
            field: format!("${name}"),
            value,
        });
        Ok(())
    }

    fn listed(&mut self, condition: &[Value]) -> Result<(), PolicyError> {
        let [Value::String(operator), first, second] = condition else {
            return invalid("Invalid Condition: wrong number of arguments.");
        };
        let operator = match operator.to_ascii_lowercase().as_str() {
            "eq" => Operator::Eq,
            "starts-with" => Operator::StartsWith,
            "content-length-range" => return self.length_range(first, second),
            _ => return invalid(format!("Invalid Condition: unknown operation '{operator}'.")),
        };
        let (Value::String(field), Some(value)) = (first, text(second)) else {
            return invalid("Invalid Condition: arguments must be strings.");
        };
        self.conditions.push(Condition {
            operator,
            field: field.clone(),
            value,
        });
        Ok(())
    }

    /// All ranges hold: what is left is where they overlap.
    fn length_range(&mut self, first: &Value, second: &Value) -> Result<(), PolicyError> {
        let number = |value: &Value| match value {
            Value::String(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            other => other.as_u64(),
        };
        match (number(first), number(second)) {
            (Some(least), Some(most)) => {
                self.length = (self.length.0.max(least), self.length.1.min(most));
                Ok(())
            }
            _ if first.is_string() || second.is_string() => {
                self.conditions.push(Condition {
                    operator: Operator::ContentLengthRange,
                    field: text(first).unwrap_or_default(),
                    value: text(second).unwrap_or_default(),
                });
                Ok(())
            }
            _ => invalid("Invalid Content-Length-Range: both ends must be numbers of bytes."),
        }
    }

    /// Whether the policy allows a form that puts an object into `bucket`, as of `now_ms` since 1970. How long its file is
    /// remains to be seen: [`Self::length`].
    ///
    /// # Errors
    /// [`PolicyError::Denied`].
    pub fn check(&self, fields: &Fields, bucket: &str, now_ms: u64) -> Result<(), PolicyError> {
        let denied = |what: String| Err(PolicyError::Denied(what));
        if now_ms >= self.expiration_ms {
            return denied("Policy expired.".to_owned());
        }
        if let Some(broken) = self.conditions.iter().find(|c| !c.holds(fields, bucket)) {
            return Err(broken.failed());
        }
        let named: BTreeSet<String> = self.conditions.iter().filter_map(Condition::name).collect();
        let extra: Vec<&str> = fields
            .keys()
            .map(String::as_str)
            .filter(|name| !is_free(name) && *name != BUCKET)
            .chain([BUCKET])
            .filter(|name| !named.contains(*name))
            .collect();
        if extra.is_empty() {
            Ok(())
        } else {
            denied(format!("Extra input fields: {}", extra.join(", ")))
        }
    }

    /// How many bytes the file may have: at least and at most.
    pub fn length(&self) -> (u64, u64) {
        self.length
    }
}

fn is_free(name: &str) -> bool {
    FREE.contains(&name) || FREE_PREFIXES.iter().any(|p| name.starts_with(p))
}

/// Policies are written by programs of many kinds: a number or a truth stands for its text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// `2007-12-01T12:00:00.000Z`, in milliseconds since 1970.
fn moment(value: &Value) -> Result<u64, PolicyError> {
    let text = value.as_str().unwrap_or_default();
    let utc = text.len() > 10 && text.as_bytes()[10] == b'T' && text.ends_with('Z');
    let parsed = OffsetDateTime::parse(text, &Rfc3339).ok().filter(|_| utc);
    match parsed.and_then(|t| u64::try_from(t.unix_timestamp_nanos() / 1_000_000).ok()) {
        Some(ms) => Ok(ms),
        None => invalid(format!("Invalid 'expiration' value: '{text}'")),
    }
}
