"""Malformed requests without end: generators of what no decent client sends, a file for each part of a request.

A generator takes a `Place` (random choices that come out the same for the same seed, credentials, a bucket) and answers a `Wire`. Whatever it answers must be
refused with a 4xx and a code: a generator that makes something good, or something that S3 takes, is wrong itself.
"""
