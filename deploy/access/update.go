package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"godeploy/internal/fault"
	"godeploy/internal/wire"
)

// editTries is how often a file is read anew because somebody else has written it meanwhile. Each time
// somebody's edit has gone through, so many editors at once all come to their end.
const editTries = 1000

// edited is what became of a file.
type edited struct {
	seen   wire.KeyFileReply // as it was found, content and all
	after  []byte            // what it is now
	change Change
}

// update edits the file at path (of the account user, "" is the login's own): it reads, lets edit make the
// new content, and writes that if the file is still what was read. Where somebody was faster it begins anew.
// An edit that changes nothing writes nothing.
func update(ctx context.Context, a Account, user, path string, edit func([]byte) ([]byte, Change, error)) (edited, error) {
	for range editTries {
		seen, err := a.KeyFile(ctx, wire.KeyFileRequest{User: user, Path: path})
		if err != nil {
			return edited{}, err
		}
		if err := judge(seen, orSelf(user, a)); err != nil {
			return edited{seen: seen}, err
		}
		after, change, err := edit(seen.Content)
		done := edited{seen, after, change}
		if err != nil || !change.Any() {
			return done, err
		}
		if len(after) > wire.MaxKeyFile {
			return done, fault.New(fault.AccountRefused, "%s would have more than %d bytes", seen.Path, wire.MaxKeyFile)
		}
		reply, err := a.KeyFile(ctx, wire.KeyFileRequest{User: user, Path: seen.Path, Write: true, Content: after, Expect: sumOf(seen)})
		if err != nil || !reply.Stale {
			return done, err
		}
	}
	return edited{}, fault.New(fault.AccountRefused, "the keys change faster than they can be edited")
}

func orSelf(user string, a Account) string {
	if user == "" {
		return a.Facts().User
	}
	return user
}

func sumOf(r wire.KeyFileReply) string {
	if !r.Exists {
		return ""
	}
	sum := sha256.Sum256(r.Content)
	return hex.EncodeToString(sum[:])
}
