"""The stages of a run, one file each: sections of a configuration in, a frozen record out."""
