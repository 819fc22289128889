/**
 * Does tasks in their order, so many at once. When one fails the signal of the others aborts, and they are waited for: nothing
 * goes on working behind the caller's back.
 *
 * @throws what the first one failed with
 */
export async function inParallel(
  tasks: readonly ((signal: AbortSignal) => Promise<void>)[],
  { limit, signal: outer }: { readonly limit: number; readonly signal: AbortSignal },
): Promise<void> {
  const failing = new AbortController()
  const signal = AbortSignal.any([outer, failing.signal])
  const waiting = tasks.values()
  const worker = async () => {
    for (const task of waiting) {
      signal.throwIfAborted()
      await task(signal)
    }
  }
  const workers = Array.from({ length: Math.min(limit, tasks.length) }, () =>
    worker().catch((error: unknown) => failing.abort(error)),
  )
  await Promise.all(workers)
  signal.throwIfAborted()
}
