"""Models whose replicas are spread over a cluster, on Ray Core (`--cluster`, docs/cluster.md).

`engine` is the way in: what a kernel asks goes out in units (`units`) and comes back in Parquet blocks (`blocks`).
`dispatcher` hands units to the replicas and replaces those that die or hang (`standing`: what it knows of them);
`fleet` starts them on Ray; `replica` is what one does: it runs the weights in its own process, or a server (`serving`,
kept by `keeper`) that it asks. `connection` is where Ray is started or joined, and the only module besides `fleet` that
imports it, when it is needed.
"""
