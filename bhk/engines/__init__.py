"""Long work in shards: in processes of this machine, on a Ray cluster, or in parts that a cluster starts by itself."""
