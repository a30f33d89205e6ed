"""What a run did and when, from Event History alone. Client side; needs no worker.

`data` has what is known, `reader` takes in the events of one run (`calls` those of activities and child runs,
`events` the others), `turns` puts calls into turns, `read` follows chains and children, and `sums` adds up.
"""
