/* Ctrl-C during a run: set the run's stop flag, then do what would have been done anyway.
 *
 * The interpreter notes a signal in its own handler and acts on it when the run returns; all that is missing is that the run should
 * return soon. One run at a time is watched, from the main thread. */
#define _POSIX_C_SOURCE 200809L /* sigaction */
#include "tge.h"

#if defined(_WIN32)

void tge_interrupts_watch(volatile int32_t *stop) { (void)stop; }
void tge_interrupts_ignore(void) {}

#else

#include <signal.h>

static volatile int32_t *volatile watched;
static struct sigaction previous;
static int installed;

static void interrupted(int number, siginfo_t *info, void *context)
{
    if (watched)
        *watched = 1;
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(number, info, context);
    else
        previous.sa_handler(number);
}

void tge_interrupts_watch(volatile int32_t *stop)
{
    struct sigaction action = {0};

    sigaction(SIGINT, NULL, &previous);
    if (!(previous.sa_flags & SA_SIGINFO) && (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN))
        return; /* nobody would act on it, or the process ends at once */
    watched = stop;
    action.sa_sigaction = interrupted;
    action.sa_mask = previous.sa_mask;
    action.sa_flags = previous.sa_flags | SA_SIGINFO;
    sigaction(SIGINT, &action, NULL);
    installed = 1;
}

void tge_interrupts_ignore(void)
{
    if (!installed)
        return;
    sigaction(SIGINT, &previous, NULL);
    watched = NULL;
    installed = 0;
}

#endif
