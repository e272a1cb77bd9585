package store

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"

	"github.com/pressly/goose/v3"
)

var componentName = regexp.MustCompile(`^[a-z]{1,32}$`)

// Migrate brings the tables of one component up to the newest of its migrations, which lie in the root of migrations as
// goose's SQL files. Every component has its own sequence, so several live in one file. A file that a newer program has
// migrated further is refused with ErrNewer.
func (db *DB) Migrate(ctx context.Context, component string, migrations fs.FS) error {
	if !componentName.MatchString(component) {
		return fmt.Errorf("migrate %q: not a component's name", component)
	}
	release, err := db.alone()
	if err != nil {
		return err
	}
	defer release()
	p, err := goose.NewProvider(goose.DialectSQLite3, db.writer, migrations,
		goose.WithTableName("migrations_"+component), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("migrate %s in %s: %w", component, db.path, err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("migrate %s in %s: %w", component, db.path, classify(err))
	}
	if have > want {
		return fmt.Errorf("migrate %s in %s: %w: its tables are of version %d, this program knows %d",
			component, db.path, ErrNewer, have, want)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate %s in %s: %w", component, db.path, classify(err))
	}
	for _, m := range done {
		db.log.LogAttrs(ctx, slog.LevelDebug, "migrated", slog.String("component", component), slog.Int64("version", m.Source.Version))
	}
	return nil
}
