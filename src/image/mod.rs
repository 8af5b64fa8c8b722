//! Images: references, OCI layouts and archives, blobs, unpacking, the store on disk.
#![forbid(unsafe_code)]
