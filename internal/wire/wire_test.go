package wire_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia/internal/wire"
)

func TestMethodNotAllowed(t *testing.T) {
	w := httptest.NewRecorder()
	wire.MethodNotAllowed(w, httptest.NewRequest("PATCH", "/", nil), "GET")
	assert.Equal(t, 405, w.Code)
	assert.JSONEq(t, `{"errcode":"M_UNRECOGNIZED","error":"Method not allowed"}`, w.Body.String())
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.Equal(t, "GET, OPTIONS", w.Header().Get("Allow"))
	assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	w = httptest.NewRecorder()
	wire.MethodNotAllowed(w, httptest.NewRequest("OPTIONS", "/", nil), "GET")
	assert.Equal(t, 204, w.Code)
	assert.Empty(t, w.Body.String())
	assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	assert.Empty(t, w.Header().Get("Allow"))
}
