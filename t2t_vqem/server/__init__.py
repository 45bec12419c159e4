"""The server: exported models over HTTP, and a page. Uses only `t2t_vqem.runtime`."""
