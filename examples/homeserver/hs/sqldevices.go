package hs

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

func (a *sqlAccounts) PutDevice(ctx context.Context, d Device) error {
	keys, err := json.Marshal(d.Keys)
	if err != nil {
		return err
	}
	return a.write(ctx, func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, `INSERT INTO devices (localpart, id, name, token_sha256, keys, created)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (localpart, id) DO UPDATE SET
			name = excluded.name, token_sha256 = excluded.token_sha256, keys = excluded.keys, created = excluded.created`,
			d.Localpart, d.ID, d.Name, hex.EncodeToString(d.Token[:]), string(keys), d.Created.UnixMilli())
		return err
	})
}

// readDevice reads a row of devices.
func readDevice(rows *sql.Rows) (Device, error) {
	var d Device
	var token, keys string
	var created int64
	if err := rows.Scan(&d.Localpart, &d.ID, &d.Name, &token, &keys, &created); err != nil {
		return Device{}, err
	}
	d.Created = time.UnixMilli(created).UTC()
	_, err := hex.Decode(d.Token[:], []byte(token))
	return d, errors.Join(err, json.Unmarshal([]byte(keys), &d.Keys))
}

// devices returns those that match a condition.
func (a *sqlAccounts) devices(ctx context.Context, where string, args ...any) (all []Device, err error) {
	rows, err := a.on(ctx).QueryContext(ctx, `SELECT localpart, id, name, token_sha256, keys, created FROM devices WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		d, err := readDevice(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, rows.Err()
}

func (a *sqlAccounts) DeviceByToken(ctx context.Context, token TokenDigest) (Device, error) {
	found, err := a.devices(ctx, `token_sha256 = $1`, hex.EncodeToString(token[:]))
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Device{}, err
	}
	return found[0], nil
}

func (a *sqlAccounts) Devices(ctx context.Context, localpart string) ([]Device, error) {
	if !isText(localpart) {
		return nil, nil
	}
	all, err := a.devices(ctx, `localpart = $1`, localpart)
	// Here, because how a database sorts text depends on how it was set up.
	slices.SortFunc(all, func(a, b Device) int { return cmp.Compare(a.ID, b.ID) })
	return all, err
}

func (a *sqlAccounts) RenameDevice(ctx context.Context, localpart, id, name string) error {
	if !isText(localpart + id) {
		return ErrNotFound
	}
	return a.write(ctx, func(ctx context.Context, q querier) error {
		return updated(q.ExecContext(ctx, `UPDATE devices SET name = $1 WHERE localpart = $2 AND id = $3`, name, localpart, id))
	})
}

func (a *sqlAccounts) DeleteDevice(ctx context.Context, localpart, id string) error {
	if !isText(localpart + id) {
		return ErrNotFound
	}
	return a.write(ctx, func(ctx context.Context, q querier) error {
		return updated(q.ExecContext(ctx, `DELETE FROM devices WHERE localpart = $1 AND id = $2`, localpart, id))
	})
}

func (a *sqlAccounts) DeleteAllDevices(ctx context.Context, localpart string) error {
	return a.write(ctx, func(ctx context.Context, q querier) error {
		_, err := q.ExecContext(ctx, `DELETE FROM devices WHERE localpart = $1`, localpart)
		return err
	})
}

func (a *sqlAccounts) AddKeys(ctx context.Context, localpart, id string, keys DeviceKeys) (all DeviceKeys, err error) {
	err = a.write(ctx, func(ctx context.Context, q querier) error {
		// Writing the row first locks it: of two that add keys at once, the second one
		// reads what the first has written.
		var old string
		err := q.QueryRowContext(ctx, `UPDATE devices SET keys = keys WHERE localpart = $1 AND id = $2 RETURNING keys`,
			localpart, id).Scan(&old)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		} else if err != nil {
			return err
		}
		all = DeviceKeys{}
		if err := json.Unmarshal([]byte(old), &all); err != nil {
			return err
		}
		all.add(keys)
		merged, err := json.Marshal(all)
		if err != nil {
			return err
		}
		_, err = q.ExecContext(ctx, `UPDATE devices SET keys = $1 WHERE localpart = $2 AND id = $3`, string(merged), localpart, id)
		return err
	})
	return all, err
}
