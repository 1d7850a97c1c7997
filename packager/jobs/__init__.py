"""A queue of background jobs, done by this process or by others.

A job is a function of its inputs. Its result takes its place by a rename, so that it may be done twice, even
at the same time, without harm: that is what lets jobs survive whatever is killed.
"""
