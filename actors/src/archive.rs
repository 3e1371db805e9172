//! Windows, parts and manifests: how the archive is laid out and composed.
