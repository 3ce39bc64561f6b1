package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"godeploy/internal/fault"
)

// ErrUnsupported is what a Handler returns for an optional request it does not know, and what the
// caller of that request gets.
var ErrUnsupported = errors.New("not supported by this helper")

// ErrGone is the cause of the end of a server's work when the controller's side has ended.
var ErrGone = errors.New("the controller has gone")

// breach is a fault of the peer's: the connection cannot go on.
func breach(format string, args ...any) error {
	return fault.New(fault.Protocol, "the other side broke the protocol: %s", fmt.Sprintf(format, args...))
}

// encodeError turns any error into what travels. A fault keeps its code; a cancelled request says
// so; anything else is internal.
func encodeError(err error) ErrorReply {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		r := ErrorReply{Code: string(e.Code), Msg: e.Msg, Hint: e.Cause, Facts: e.Facts, Next: e.Next}
		if e.Err != nil {
			r.Msg += ": " + e.Err.Error()
		}
		return r.cut()
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ErrorReply{Code: string(fault.Interrupted), Msg: "the request was cancelled"}
	}
	return ErrorReply{Code: string(fault.Internal), Msg: err.Error()}.cut()
}

const (
	maxText  = 16 << 10
	maxLines = 16
)

// cut shortens what would not pass Check.
func (r ErrorReply) cut() ErrorReply {
	// JSON makes three bytes of one that is no UTF-8, so those are replaced before the text is cut.
	short := func(s *string) {
		*s = strings.ToValidUTF8(*s, "?")
		if len(*s) > maxText {
			*s = strings.ToValidUTF8((*s)[:maxText], "")
		}
	}
	short(&r.Msg)
	short(&r.Hint)
	r.Facts = append([]string(nil), r.Facts[:min(len(r.Facts), maxLines)]...)
	r.Next = append([]string(nil), r.Next[:min(len(r.Next), maxLines)]...)
	for i := range r.Facts {
		short(&r.Facts[i])
	}
	for i := range r.Next {
		short(&r.Next[i])
	}
	if r.Msg == "" {
		r.Msg = "no reason was given"
	}
	return r
}

// fault gives the error as the caller sees it, with the code it had on the host.
func (r ErrorReply) fault() *fault.Error {
	return &fault.Error{Code: fault.Code(r.Code), Msg: r.Msg, Cause: r.Hint, Facts: r.Facts, Next: r.Next}
}

// Check refuses an error without a code or with texts longer than 16 KiB.
func (r *ErrorReply) Check() error {
	if r.Code == "" || len(r.Code) > 40 || strings.Trim(r.Code, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("code %.50q", r.Code)
	}
	if len(r.Facts) > maxLines || len(r.Next) > maxLines {
		return errors.New("too many lines")
	}
	for _, s := range append(append([]string{r.Msg, r.Hint}, r.Facts...), r.Next...) {
		if len(s) > maxText {
			return errors.New("text too long")
		}
	}
	return nil
}
