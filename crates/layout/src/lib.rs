//! Pure: stripe geometry, failure domains, which disks keep an extent.
