//go:build tools

// FerretDB 1.24, which speaks MongoDB's protocol over SQLite, and MongoDB's own tools, 100.12.2: Debian has neither.

package programs

import (
	_ "github.com/FerretDB/FerretDB/cmd/ferretdb"
	_ "github.com/mongodb/mongo-tools/mongodump/main"
	_ "github.com/mongodb/mongo-tools/mongorestore/main"
)
