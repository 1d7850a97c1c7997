"""Processes that serve beside the started one, where ``server.workers`` is more than 1.

The *control process* is the started one: it is a whole server, which runs the channels, stations and event
channels, keeps all state that changes, and can answer everything. The *workers* are fresh Python processes
that accept all connections of the public port, and answer what needs no state of the control process: files,
VOD, the page, and live channels, stations and event channels, whose logs they follow. A connection with any
other request is handed over to the control process, which keeps it to its end. Of a connection that is
encrypted or speaks HTTP/2, which stays in its worker, single requests are relayed to the control process.

    worker_pool            the control process's side: keeps workers running, queries them, and ends them
    worker_process         one worker as the control process sees it, and its connections
    worker                 the program that a worker runs
    services               the services of a worker, and the requests that it answers
    control_requests       requests of connections that stay in a worker, which the control process answers
    live_handover          which requests for live channels a worker answers
    event_channel_readers  which requests for event channels a worker answers, and their readers
    stations               which requests for stations a worker answers, and their listeners
    messages               the messages between the two, over a Unix socket for each worker
    packet_socket          that socket: whole messages with descriptors, and a limited queue

All share one listening socket of the control process's, rather than one each (SO_REUSEPORT): a worker that
dies or stands still leaves nothing in a queue of its own, an address that is taken is still an error, and
sockets of systemd, of which there is one, are served and handed over to the next version as with one process.
As long as no worker is there, the control process accepts connections itself.
"""
