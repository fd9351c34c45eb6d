package embedded

import (
	"context"
	"fmt"
	"os"
)

// ensureCluster makes the cluster if there is none. It is built beside its
// place and renamed into it, so that a broken-off initdb leaves nothing that
// looks whole.
func ensureCluster(ctx context.Context, g programs, f *folder) error {
	if made, err := f.clusterVersion(); err != nil || made != 0 {
		return err
	}
	building := f.data + ".new"
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	if err := f.makePrivate(building); err != nil {
		return err
	}
	_, err := g.output(ctx, f, "initdb",
		"-D", building, "-U", Superuser,
		"--encoding=UTF8", "--locale=C", "--data-checksums",
		"--auth-local=trust", // the socket's folder is the guard, see the package
		"--auth-host=reject",
		"--no-instructions")
	if err != nil {
		return err
	}
	if err := os.Rename(building, f.data); err != nil {
		return err
	}
	return syncDir(f.dir)
}

// checkDurable refuses a cluster whose configuration gives up durability. The
// command line would win, but an owner who wrote that line must learn that it
// is not obeyed.
func checkDurable(ctx context.Context, g programs, f *folder) error {
	for _, setting := range []string{"fsync", "full_page_writes"} {
		value, err := g.output(ctx, f, "postgres", "-D", f.data, "-C", setting)
		if err != nil {
			return err
		}
		if value != "on" {
			return fmt.Errorf("the configuration in %s sets %s = %s, which loses recorded history at a power cut: take that line out", f.data, setting, value)
		}
	}
	return nil
}
