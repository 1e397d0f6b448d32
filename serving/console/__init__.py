"""The console: pages that people look at, made on the server from the release, the ledger and the files beside them. It knows no HTTP."""
