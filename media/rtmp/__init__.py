"""RTMP: Adobe's specification 1.0 and Veovera's Enhanced RTMP v2; its messages carry the tags of FLV."""
