"""One file, or one folder of frames -> frames: read, probe, decode, packed, images, resize, cropping."""
