"""VOD ahead of time: the playlists and segments of films, written to a folder for any web server.

``sources`` finds the films; ``film_outputs`` says what is to be written of one; ``package_record`` what was,
so that it isn't written again; ``export`` writes what is missing; ``single_file`` puts a track's segments
into one file.
"""
