//! How accounts are shown to clients: S3's canonical id, its account number, its display name.

use crate::xml::XmlWriter;
use types::AccountId;

/// The 12 digits of an account.
pub(crate) fn account_number(account: AccountId) -> String {
    format!("{:012}", account.0)
}

/// The canonical user id: 64 hexadecimal digits, opaque to clients.
pub(crate) fn canonical_id(account: AccountId) -> String {
    format!("{:064x}", account.0)
}

/// What people read.
pub(crate) fn display_name(account: AccountId) -> String {
    if account == AccountId::ROOT {
        "root".to_owned()
    } else {
        account_number(account)
    }
}

/// A bucket's name as identity policies write it.
pub(crate) fn bucket_arn(name: &str) -> String {
    format!("arn:aws:s3:::{name}")
}

/// `<element><ID/><DisplayName/></element>`.
pub(crate) fn write(x: &mut XmlWriter, element: &str, account: AccountId) {
    x.open(element);
    x.text("ID", &canonical_id(account));
    x.text("DisplayName", &display_name(account));
    x.close(element);
}
