"""A campaign from plan to publication: policy, lifecycle, store, failed tries, the verdict."""
