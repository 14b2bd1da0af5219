// A bot on net/http alone, behind ringhook.
//
// BOT_TOKEN and BOT_SECRET are needed. BOT_PORT or BOT_SOCKET says where it listens, BOT_PATH under
// which path, BOT_API_ROOT where the Bot API is. BOT_LOG names a file that gets a line for each
// update handled, BOT_WORK makes each take up to that many milliseconds.
package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What Telegram sends at most.
const maxBody = 512 << 10

type chat struct {
	ID int64 `json:"id"`
}

// What is read of an update, of any kind.
type payload struct {
	ID      json.RawMessage `json:"id"`
	PollID  string          `json:"poll_id"`
	Chat    *chat           `json:"chat"`
	From    *chat           `json:"from"`
	User    *chat           `json:"user"`
	Message *struct {
		Chat *chat `json:"chat"`
	} `json:"message"`
	Text string `json:"text"`
}

type update struct {
	id      int64
	kind    string
	payload payload
}

func parse(body []byte) (update, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &fields); err != nil {
		return update{}, err
	}
	var parsed update
	for name, value := range fields {
		var err error
		if name == "update_id" {
			err = json.Unmarshal(value, &parsed.id)
		} else {
			parsed.kind = name
			err = json.Unmarshal(value, &parsed.payload)
		}
		if err != nil {
			return update{}, err
		}
	}
	return parsed, nil
}

// The id that an update belongs to: of a chat, a poll or a user.
func (u update) chat() string {
	p := u.payload
	switch {
	case p.Chat != nil:
		return strconv.FormatInt(p.Chat.ID, 10)
	case p.Message != nil && p.Message.Chat != nil:
		return strconv.FormatInt(p.Message.Chat.ID, 10)
	case p.PollID != "":
		return p.PollID
	case p.From != nil:
		return strconv.FormatInt(p.From.ID, 10)
	case p.User != nil:
		return strconv.FormatInt(p.User.ID, 10)
	case len(p.ID) > 0:
		return strings.Trim(string(p.ID), `"`)
	}
	return "-"
}

type bot struct {
	path, secret, token, apiRoot, log string
	work                              int
	mutex                             sync.Mutex
	failures                          map[int64]int
}

// What a method is called with, in the body of the answer.
type reply struct {
	Method string `json:"method"`
	ChatID int64  `json:"chat_id"`
	Text   string `json:"text"`
}

func (b *bot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != b.path || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	given := r.Header.Get("X-Telegram-Bot-Api-Secret-Token")
	if subtle.ConstantTimeCompare([]byte(given), []byte(b.secret)) != 1 {
		http.Error(w, "wrong secret token", http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "cannot read", http.StatusBadRequest)
		return
	}
	u, err := parse(body)
	if err != nil {
		http.Error(w, "no update", http.StatusBadRequest)
		return
	}
	if err := b.handle(w, u); err != nil {
		// 500: ringhook sends the update again.
		log.Printf("update %d: %v", u.id, err)
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
}

func (b *bot) handle(w http.ResponseWriter, u update) error {
	if b.work > 0 {
		time.Sleep(time.Duration(rand.Intn(b.work*1000)) * time.Microsecond)
	}
	command, argument, _ := strings.Cut(u.payload.Text, " ")
	if u.kind != "message" || u.payload.Chat == nil {
		command = ""
	}
	if command == "/fail" {
		if b.fails(u.id, argument) {
			return errors.New("asked to fail")
		}
	}
	// Before the answer: the next update of this chat comes after it.
	if err := b.record(u); err != nil {
		return err
	}
	switch command {
	case "/start":
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(
			reply{"sendMessage", u.payload.Chat.ID, "Hello from Go"})
	case "/file":
		return document(w, u.payload.Chat.ID)
	}
	return nil
}

// A method call with a file: multipart, the method in front.
func document(w http.ResponseWriter, chat int64) error {
	form := &bytes.Buffer{}
	parts := multipart.NewWriter(form)
	fields := [][2]string{{"method", "sendDocument"}, {"chat_id", strconv.FormatInt(chat, 10)}}
	for _, field := range fields {
		if err := parts.WriteField(field[0], field[1]); err != nil {
			return err
		}
	}
	file, err := parts.CreateFormFile("document", "hello.txt")
	if err != nil {
		return err
	}
	if _, err := io.WriteString(file, strings.Repeat("a small file\n", 10)); err != nil {
		return err
	}
	if err := parts.Close(); err != nil {
		return err
	}
	w.Header().Set("Content-Type", parts.FormDataContentType())
	_, err = form.WriteTo(w)
	return err
}

// Whether it is to fail: each time, or as often as the argument says.
func (b *bot) fails(id int64, argument string) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.failures[id]++
	most, err := strconv.Atoi(argument)
	return err != nil || b.failures[id] <= most
}

func (b *bot) record(u update) error {
	if b.log == "" {
		return nil
	}
	file, err := os.OpenFile(b.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = fmt.Fprintf(file, "%d %s %s\n", u.id, u.kind, u.chat())
	return err
}

// Whether the token is one: asks the Bot API who the bot is.
func (b *bot) getMe() error {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(b.apiRoot + "/bot" + b.token + "/getMe")
	if err != nil {
		// Its text has the URL, and so the token.
		return errors.New("the Bot API cannot be reached")
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New("getMe: " + response.Status)
	}
	return nil
}

func env(name, otherwise string) string {
	if value, ok := os.LookupEnv(name); ok {
		return value
	}
	return otherwise
}

func main() {
	b := &bot{
		path:     env("BOT_PATH", "/webhook"),
		secret:   os.Getenv("BOT_SECRET"),
		token:    os.Getenv("BOT_TOKEN"),
		apiRoot:  env("BOT_API_ROOT", "https://api.telegram.org"),
		log:      os.Getenv("BOT_LOG"),
		failures: map[int64]int{},
	}
	b.work, _ = strconv.Atoi(os.Getenv("BOT_WORK"))
	if b.secret == "" {
		log.Fatal("BOT_SECRET is not set")
	}
	if err := b.getMe(); err != nil {
		log.Fatal(err)
	}
	network, address := "tcp", "127.0.0.1:"+env("BOT_PORT", "3000")
	if path := os.Getenv("BOT_SOCKET"); path != "" {
		network, address = "unix", path
		// A process that was killed leaves its socket behind.
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			log.Fatal(err)
		}
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler:           b,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	stopped := make(chan struct{})
	go func() {
		stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		defer cancel()
		<-stop.Done()
		// Waits for the requests under way.
		if err := server.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
		close(stopped)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-stopped
}
