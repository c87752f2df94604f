/*
 * screen.c - the terminal as long as a live view has it.
 *
 * However the view ends, the terminal gets back its screen, its cursor and its modes: by q and Ctrl-C here, by an exit through atexit, and by Ctrl-Z
 * before the process stops. Signals are let through only while screen_wait sleeps, so that none comes between a look at its flag and the sleep.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "shm/park.h"
#include "tools/shalectl/top.h"

static struct termios cooked;
static bool taken, keys;
static volatile sig_atomic_t ended, stopped, resized;

static void on_signal(int signal)
{
	if (signal == SIGWINCH)
		resized = 1;
	else if (signal == SIGTSTP)
		stopped = 1;
	else
		ended = 1;
}

static void put(const char *text)
{
	fputs(text, stdout);
	fflush(stdout);
}

static void take(void)
{
	struct termios raw;

	keys = tcgetattr(STDIN_FILENO, &cooked) == 0;
	if (keys) {
		raw = cooked;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		raw.c_cc[VMIN] = 0;
		raw.c_cc[VTIME] = 0;
		tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	}
	put("\033[?1049h\033[?25l"); /* the other screen; no cursor */
	taken = true;
}

void screen_end(void)
{
	if (!taken)
		return;
	taken = false;
	put("\033[?25h\033[?1049l");
	if (keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &cooked);
}

int screen_begin(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH};
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t mask;

	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		sigaddset(&mask, signals[i]);
		if (sigaction(signals[i], &action, NULL) < 0)
			return -errno;
	}
	if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
		return -errno;
	signal(SIGPIPE, SIG_IGN); /* a terminal that goes away is an error of the write */
	atexit(screen_end);
	take();
	return 0;
}

void screen_size(unsigned *width_out, unsigned *rows_out)
{
	struct winsize size;
	bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row;

	*width_out = known ? size.ws_col : 80;
	*rows_out = known ? size.ws_row : 24;
}

void screen_show(const char *text)
{
	put("\033[H");
	while (*text) {
		size_t n = strcspn(text, "\n");

		fwrite(text, 1, n, stdout);
		fputs("\033[K", stdout);
		text += n;
		if (*text) {
			if (text[1])
				fputs("\r\n", stdout);
			text++;
		}
	}
	put("\033[J");
}

/* Ctrl-Z: the shell gets its terminal back, and we ours when we go on. */
static void stop(void)
{
	screen_end();
	stopped = 0;
	raise(SIGSTOP);
	take();
}

/* Whether one of the keys that wait means the end. A terminal that is gone does, too. */
static bool quit_key(void)
{
	char buf[32];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n <= 0)
		return n == 0 || errno != EINTR;
	for (ssize_t i = 0; i < n; i++)
		if (buf[i] == 'q' || buf[i] == 'Q' || buf[i] == 4) /* Ctrl-D */
			return true;
	return false;
}

enum screen_event screen_wait(uint64_t until_ns)
{
	struct pollfd input = {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN};
	sigset_t none;

	sigemptyset(&none);
	for (;;) {
		uint64_t now = monotonic_ns(), left = until_ns > now ? until_ns - now : 0;
		struct timespec wait = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
		int n = ppoll(&input, 1, &wait, &none);

		if (ended)
			return SCREEN_QUIT;
		if (stopped) {
			stop();
			return SCREEN_REDRAW;
		}
		if (resized) {
			resized = 0;
			return SCREEN_REDRAW;
		}
		if (n > 0 && quit_key())
			return SCREEN_QUIT;
		if (n == 0 || ferror(stdout))
			return ferror(stdout) ? SCREEN_QUIT : SCREEN_TIME;
	}
}
