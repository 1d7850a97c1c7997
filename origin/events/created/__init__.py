"""Event channels that are made at run time, with names, tokens and limits of their own.

`channels` has their records, and the channels of those that clients use; `records` and `journal` are how they
survive a restart, by way of `store`. `requests` reads what clients want, and `routes` answers them.
"""
