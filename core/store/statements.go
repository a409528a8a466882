package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxStatements is how many compiled statements a connection keeps. All that an idle core
// runs are fewer.
const maxStatements = 64

// statements opens connections that keep the statements they ran: to compile one takes
// longer than to run it.
type statements struct{ driver.Connector }

// Connect implements driver.Connector.
func (s statements) Connect(ctx context.Context) (driver.Conn, error) {
	raw, err := s.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := raw.(sqliteConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's connection is a %T, which is not known", raw), raw.Close())
	}
	return &conn{sqliteConn: inner, idle: map[string]driver.Stmt{}}, nil
}

// sqliteConn is what database/sql asks of a connection.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// conn is a connection with its statements. database/sql never calls it twice at once.
type conn struct {
	sqliteConn
	// idle are the compiled statements that nobody reads from.
	idle map[string]driver.Stmt
}

// statement is what a compiled statement can do.
type statement interface {
	driver.StmtQueryContext
	driver.StmtExecContext
}

// take returns a compiled statement, which is the caller's until it gives it back: the same
// query may run again before all rows of this one were read. It is nil for what is not kept.
func (c *conn) take(ctx context.Context, query string) (driver.Stmt, error) {
	if !slices.ContainsFunc([]string{"SELECT", "INSERT", "UPDATE", "DELETE"}, func(word string) bool { return strings.HasPrefix(query, word) }) {
		return nil, nil // scripts, and what is done once in a lifetime
	}
	if s, ok := c.idle[query]; ok {
		delete(c.idle, query)
		return s, nil
	}
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if _, ok := s.(statement); !ok {
		return nil, errors.Join(fmt.Errorf("the driver's statement is a %T, which is not known", s), s.Close())
	}
	return s, nil
}

// give takes a statement back; after an error it is not used again.
func (c *conn) give(query string, s driver.Stmt, err error) error {
	if _, taken := c.idle[query]; err != nil || taken {
		return errors.Join(err, s.Close())
	}
	if len(c.idle) >= maxStatements {
		for other, old := range c.idle { // any: those in use come back
			delete(c.idle, other)
			err = old.Close()
			break
		}
	}
	c.idle[query] = s
	return err
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	result, err := s.(statement).ExecContext(ctx, args) //nolint:forcetypeassert // take looked
	if err := c.give(query, s, err); err != nil {
		return nil, err
	}
	return result, nil
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return c.sqliteConn.QueryContext(ctx, query, args)
	}
	found, err := s.(statement).QueryContext(ctx, args) //nolint:forcetypeassert // take looked
	if err != nil {
		return nil, c.give(query, s, err)
	}
	return &rows{Rows: found, done: func(err error) error { return c.give(query, s, err) }}, nil
}

// Close implements driver.Conn.
func (c *conn) Close() error {
	var errs []error
	for _, s := range c.idle {
		errs = append(errs, s.Close())
	}
	clear(c.idle)
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}

// rows give their statement back once they are closed.
type rows struct {
	driver.Rows
	done func(error) error
}

// Close implements driver.Rows.
func (r *rows) Close() error {
	if r.done == nil {
		return nil
	}
	done := r.done
	r.done = nil
	return done(r.Rows.Close())
}
