/* Starts threads with the image's own glibc, waits for them, and says how many ran: `threads: 8 of 8 ran`.
   Exit status 0 if all did. glibc starts threads with clone3 and falls back to clone only on ENOSYS. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define COUNT 8

static void *run(void *ran) {
    *(int *)ran = 1;
    return NULL;
}

int main(void) {
    pthread_t threads[COUNT];
    int ran[COUNT] = {0};
    int total = 0;

    for (int i = 0; i < COUNT; i++) {
        int error = pthread_create(&threads[i], NULL, run, &ran[i]);
        if (error != 0) {
            fprintf(stderr, "threads: create thread %d: %s\n", i, strerror(error));
            return 1;
        }
    }
    for (int i = 0; i < COUNT; i++) {
        pthread_join(threads[i], NULL);
        total += ran[i];
    }
    printf("threads: %d of %d ran\n", total, COUNT);
    return total == COUNT ? 0 : 1;
}
