// Stores users by their password, or by an assertion about them.

const passwords = new Map();
const assertions = new Map();

export function putPerson(account, password) {
  passwords.set(account, password);
}

export function holderOf(account, password) {
  return passwords.get(account) === password ? account : undefined;
}

export function putAssertion(text, account) {
  assertions.set(text, account);
}

export function dropAssertion(text) {
  assertions.delete(text);
}

export function accountOf(text) {
  return assertions.get(text);
}
