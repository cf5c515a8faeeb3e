"""The Ray executor's processes: the driver beside the hub, and on each node a keeper that runs steps."""
