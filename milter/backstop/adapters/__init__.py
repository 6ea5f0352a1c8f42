"""What the daemon asks and tells outside itself: the store, recipient sources, name servers, next hops.

Each adapter has one error of its own, which `gather` turns into *unknown*.
"""
