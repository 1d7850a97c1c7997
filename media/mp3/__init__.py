"""MPEG audio and AAC as bare frames, with their tags: ID3, Xing, ICY."""
