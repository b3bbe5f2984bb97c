"""Documents: XML that is broken, nested, huge or of another meaning."""

NUMBERS = ["", "-1", "1.5", "0x10", "1e3", "\u0661", "x", "99999999999999999999999"]
TAG = "<Tag><Key>{}</Key><Value>{}</Value></Tag>"
RULE = "<CORSRule>{}</CORSRule>"
METHOD, ORIGIN = "<AllowedMethod>GET</AllowedMethod>", "<AllowedOrigin>*</AllowedOrigin>"
ETAG = "<ETag>0123456789abcdef0123456789abcdef</ETag>"


def of(root, inside):
    return f"<{root}>{inside}</{root}>"


def rule(inside):
    return of("CORSConfiguration", RULE.format(inside))


def tags(*pairs):
    return of("Tagging", of("TagSet", "".join(TAG.format(*p) for p in pairs)))


def part(number, etag=ETAG):
    return f"<Part><PartNumber>{number}</PartNumber>{etag}</Part>"


def targets(p):
    """What takes a document: method, path, sub-resource, a good one, and good XML that it does not take."""
    upload = [("uploadId", p.upload)]
    obj = p.path + "/k"
    junk = p.word()
    bad_tags = [
        tags(("", "v")), tags(("k" * 129, "v")), tags(("k", "v" * 257)), tags(("a<b".replace("<", "&lt;"), "v")), tags(("k", "v"), ("k", "w")),
        of("Tagging", ""), of("Tagging", of("TagSet", of(junk, ""))), tags(("aws:k", "v")) * 2, of("Tagging", of("TagSet", "<Tag><Key>k</Key></Tag>")),
    ]
    many = [f"t{n}" for n in range(51)]
    return {
        "Delete": (
            "POST", p.path, "delete", of("Delete", "<Object><Key>a</Key></Object>"),
            ["<Delete/>", of("Delete", "<Object/>"), of("Delete", "<Object><Key>k</Key></Object>" * 1001), of("Delete", "<Object><Key>a</Key><Key>b</Key></Object>"),
             of("Delete", of("Object", "<Key>k</Key><VersionId>1</VersionId><VersionId>2</VersionId>")), of("Delete", "<Quiet>true</Quiet>")],
        ),
        "Complete": (
            "POST", obj, upload, of("CompleteMultipartUpload", part(1)),
            [of("CompleteMultipartUpload", inside) for inside in
             [part(p.choice(NUMBERS)), part(0), part(10_001), part(1, ""), part(1, "<ETag>x</ETag>"), part(1, ETAG * 2), part(2) + part(1), part(1) + part(1, "<ETag/>"),
              part(1) * 1 + "<Part/>", part(1, ETAG + "<ChecksumCRC32>!</ChecksumCRC32>"), "".join(part(n) for n in range(1, 10_002))]],
        ),
        "Versioning": (
            "PUT", p.path, "versioning", of("VersioningConfiguration", "<Status>Enabled</Status>"),
            [of("VersioningConfiguration", inside) for inside in
             ["", "<Status/>", "<Status>enabled</Status>", "<Status>On</Status>", "<Status>Enabled</Status>" * 2, "<Status>Enabled</Status><MfaDelete>x</MfaDelete>"]],
        ),
        "BucketTagging": ("PUT", p.path, "tagging", tags(("k", "v")), [*bad_tags, tags(*[(k, "v") for k in many])]),
        "ObjectTagging": ("PUT", obj, "tagging", tags(("k", "v")), [*bad_tags, tags(*[(k, "v") for k in many[:11]])]),
        "Cors": (
            "PUT", p.path, "cors", rule(METHOD + ORIGIN),
            [of("CORSConfiguration", ""), of("CORSConfiguration", RULE.format(METHOD + ORIGIN) * 101), of("CORSConfiguration", of(junk, "")),
             *map(rule, ["", METHOD, ORIGIN, "<AllowedMethod>PATCH</AllowedMethod>" + ORIGIN, "<AllowedMethod>get</AllowedMethod>" + ORIGIN,
                         METHOD + "<AllowedOrigin>*.*</AllowedOrigin>", METHOD + ORIGIN + "<AllowedHeader>**</AllowedHeader>",
                         METHOD + ORIGIN + "<ExposeHeader>*</ExposeHeader>", METHOD + ORIGIN + f"<ID>{'i' * 256}</ID>", METHOD + ORIGIN + of(junk, ""),
                         METHOD + ORIGIN + of("MaxAgeSeconds", p.choice(NUMBERS)), METHOD + ORIGIN + "<MaxAgeSeconds>1</MaxAgeSeconds>" * 2]),
             rule(METHOD + ORIGIN + of("AllowedHeader", "h" * 70_000))],
        ),
        "Ownership": (
            "PUT", p.path, "ownershipControls", of("OwnershipControls", "<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"),
            [of("OwnershipControls", inside) for inside in ["", "<Rule/>", of("Rule", of("ObjectOwnership", junk)), of("Rule", of("ObjectOwnership", "ObjectWriter")) * 2]],
        ),
        "PublicAccess": (
            "PUT", p.path, "publicAccessBlock", of("PublicAccessBlockConfiguration", "<BlockPublicAcls>true</BlockPublicAcls>"),
            [of("PublicAccessBlockConfiguration", inside) for inside in
             ["<BlockPublicAcls>yes</BlockPublicAcls>", "<BlockPublicAcls/>", of(junk, "true"), "<IgnorePublicAcls>true</IgnorePublicAcls>" * 2]],
        ),
        "Acl": (
            "PUT", p.path, "acl", None,
            ["<AccessControlPolicy/>", of("AccessControlPolicy", "<Owner/><AccessControlList/>"),
             of("AccessControlPolicy", "<Owner><ID>x</ID></Owner><AccessControlList/>"), of("AccessControlPolicy", "<Owner><ID>x</ID></Owner>" * 2)],
        ),
        "CreateBucket": (
            "PUT", f"/{junk}-new", [], of("CreateBucketConfiguration", "<LocationConstraint>us-west-2</LocationConstraint>"),
            [of("CreateBucketConfiguration", f"<LocationConstraint>{junk}</LocationConstraint>"), of("CreateBucketConfiguration", "<LocationConstraint>eu-west-1</LocationConstraint>" * 2)],
        ),
    }


def broken(p, good):
    """No such document, whatever the good one says."""
    cut = p.randrange(1, len(good) - 1)
    deep = p.randrange(9, 60_000)
    return p.choice([
        lambda: good[:cut].encode(),
        lambda: good[cut:].encode(),
        lambda: (good + good).encode(),
        lambda: f'<!DOCTYPE x [<!ENTITY a "{"b" * 100}"><!ENTITY b "{"&a;" * 100}">]>{good.replace("><", ">&b;<", 1)}'.encode(),
        lambda: f'<!DOCTYPE x SYSTEM "file:///etc/passwd">{good}'.encode(),
        lambda: f"<Other>{good}</Other>".encode(),
        lambda: ("<a>" * deep + good + "</a>" * deep).encode(),
        lambda: ("<a>" * deep + good).encode(),
        lambda: good.replace(">", f"><{'b' * 9}/>" * 1, 1).replace("/>", "/" * p.randrange(2, 9) + ">", 1).encode()[: len(good) // 2],
        lambda: good.encode() + bytes([0xFF, 0xFE]),
        lambda: b"\xff\xfe" + good.encode("utf-16-le"),
        lambda: good.replace(">", ">\x00", 1).encode(),
        lambda: good.replace(">", ">&#0x;", 1).encode(),
        lambda: good.replace(">", ">&#xD800;", 1).encode(),
        lambda: good.replace(">", ">\ud800", 1).encode("utf-8", "surrogatepass"),
        lambda: good.replace(">", f">&{p.word()};", 1).encode(),
        lambda: good.replace("</", "<", 1).encode(),
        lambda: good.replace("</", "</x", 1).encode(),
        lambda: b"x" + good.encode(),
        lambda: b"{}",
        lambda: b" " * p.randrange(1, 9),
        lambda: good.encode() + b" " * (2 << 20),
        lambda: f"<!-- {good}".encode(),
        lambda: f"<![CDATA[{good}]]>".encode(),
    ])()


def xml_that_is_none(p):
    method, path, sub, good, _ = p.choice([t for t in targets(p).values() if t[3]])
    return p.document(method, path, sub, broken(p, good))


def xml_that_says_something_else(p):
    method, path, sub, _, bad = p.choice(list(targets(p).values()))
    return p.document(method, path, sub, p.choice(bad).encode())


def unvouched(p):
    """A digest that is another's, or none where one must be."""
    method, path, sub, good, _ = targets(p)["Delete"]
    headers = p.choice([{}, {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, {"content-md5": p.word()}, {"x-amz-checksum-crc32": "AAAAAA=="}])
    return p.request(method, path, [(sub, "")], headers, good.encode())


FAMILY = [xml_that_is_none, xml_that_is_none, xml_that_says_something_else, xml_that_says_something_else, unvouched]
