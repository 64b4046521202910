"""The store that many cells share: an etcd, reached over gRPC."""
