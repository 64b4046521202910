"""What etcd has of names: routes, names of apps and numbers of instances, who has claimed them, and whose they are."""
