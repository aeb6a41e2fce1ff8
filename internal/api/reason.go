package api

import (
	"errors"

	"github.com/matrix-uia/uia"
)

// InvalidReason names what uia.Token.Usable says; "" for nil.
func InvalidReason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, uia.ErrRevoked):
		return "revoked"
	case errors.Is(err, uia.ErrExpired):
		return "expired"
	}
	return "exhausted"
}
