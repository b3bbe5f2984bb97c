//! The targets by name.

/// One target.
pub struct Target {
    /// What `cargo xtask fuzz` and the directories of inputs call it.
    pub name: &'static str,
    /// Panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs that the code makes itself.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the format, for mutations.
    pub words: &'static [&'static str],
}

impl Target {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}

/// Runs a target by name.
///
/// # Panics
/// There is none of that name, or something does not hold.
pub fn run(name: &str, data: &[u8]) {
    let target = Target::named(name).expect("a target of that name");
    (target.run)(data);
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "needle",
        run: extent::fuzz::needle,
        seeds: extent::fuzz::needle_seeds,
        words: &["CNDL"],
    },
    Target {
        name: "journal_record",
        run: extent::fuzz::journal_record,
        seeds: extent::fuzz::journal_record_seeds,
        words: &["CJRN", "CTAB"],
    },
    Target {
        name: "row_key",
        run: index::fuzz::row_key,
        seeds: index::fuzz::row_key_seeds,
        words: &["\0\u{1}", "\0"],
    },
    Target {
        name: "record",
        run: index::fuzz::record,
        seeds: index::fuzz::record_seeds,
        words: &["\n\u{1}a", "\u{8}\u{1}"],
    },
    Target {
        name: "sigv4",
        run: auth::fuzz::sigv4,
        seeds: auth::fuzz::sigv4_seeds,
        words: &[
            "\nx-amz-",
            "%2F",
            "&",
            "=",
            "+",
            "?",
            ";",
            ",",
            "\n",
            " ",
            "\t",
            "SignedHeaders=",
            "%",
        ],
    },
    Target {
        name: "aws_chunked",
        run: s3::fuzz::aws_chunked,
        seeds: s3::fuzz::aws_chunked_seeds,
        words: &[
            "\r\n",
            "0\r\n",
            ";chunk-signature=",
            "x-amz-checksum-crc32:",
            "\n",
            "\r",
            "AAAAAQ==",
        ],
    },
    Target {
        name: "xml",
        run: s3::fuzz::xml,
        seeds: s3::fuzz::xml_seeds,
        words: &[
            "<a>",
            "</a>",
            "<b/>",
            "&#",
            ";",
            "&#x",
            "<![CDATA[",
            "]]>",
            "<!--",
            "-->",
            "<?",
            "?>",
            "&amp;",
            "<!DOCTYPE",
            "\r",
            ":",
        ],
    },
    Target {
        name: "range",
        run: s3::fuzz::range,
        seeds: s3::fuzz::range_seeds,
        words: &["bytes=", "-", "=", " ", ",", "0", "18446744073709551616"],
    },
    Target {
        name: "post_policy",
        run: auth::fuzz::post_policy,
        seeds: auth::fuzz::post_policy_seeds,
        words: &[
            "\"$key\"",
            "\"eq\"",
            "\"starts-with\"",
            "[",
            "]",
            "{",
            "}",
            ",",
            "\"bucket\"",
            "\"content-length-range\"",
            "\n",
            "=",
            "Z",
            "\\u0000",
        ],
    },
    Target {
        name: "post_form",
        run: s3::fuzz::post_form,
        seeds: s3::fuzz::post_form_seeds,
        words: &[
            "\r\n",
            "--XX",
            "--",
            "; name=",
            "\"",
            "filename*=",
            "\r\n\r\n",
            "=",
            ";",
        ],
    },
];
