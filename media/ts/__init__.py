"""MPEG-2 transport streams (ISO/IEC 13818-1), and audio that HLS packs without one."""
