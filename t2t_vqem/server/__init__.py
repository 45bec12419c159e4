"""The server: exported models over HTTP, and a page. Stands on `t2t_vqem.runtime` alone."""
