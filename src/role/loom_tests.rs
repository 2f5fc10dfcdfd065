use super::*;
use crate::sync::{Arc, objection_without};
use loom::thread;

/// Two threads take the role as often as they get it; loom checks that nobody else is inside.
fn exclusion() {
    loom::model(|| {
        let role = Arc::new(Role::new(0_u32));
        let other = {
            let role = role.clone();
            thread::spawn(move || match role.try_take() {
                Some(mut held) => {
                    *held += 1;
                    let _ = held.release();
                    1
                }
                None => 0,
            })
        };
        let mut taken = 0;
        if let Some(mut held) = role.try_take() {
            *held += 1;
            taken += 1;
            let _ = held.release();
        }
        taken += other.join().unwrap();
        assert!(taken >= 1, "nobody got a free role");
        assert_eq!(*role.try_take().expect("free"), taken);
    });
}

#[test]
fn at_most_one_thread_holds_the_role_and_sees_the_last_ones_state() {
    exclusion();
}

#[test]
fn without_the_roles_order_its_state_is_torn() {
    objection_without(Part::Order(Pair::Role), exclusion);
}

fn a_holder_and_one_that_wants() {
    loom::model(|| {
        let role = Arc::new(Role::new(()));
        let held = role.try_take().expect("free");
        let wanting = {
            let role = role.clone();
            thread::spawn(move || role.take_or_want().map(Held::release).is_some())
        };
        let told = held.release();
        let got = wanting.join().unwrap();
        assert!(told || got, "the want was lost");
    });
}

fn two_holders_and_one_that_wants() {
    loom::model(|| {
        let role = Arc::new(Role::new(()));
        let holders: Vec<_> = (0..2)
            .map(|_| {
                let role = role.clone();
                thread::spawn(move || role.try_take().is_some_and(Held::release))
            })
            .collect();
        let got = role.take_or_want().map(Held::release).is_some();
        let told = holders.into_iter().map(|holder| holder.join().unwrap()).fold(false, |a, b| a | b);
        assert!(told || got, "the want was lost");
    });
}

#[test]
fn who_wants_the_role_gets_it_or_its_holder_is_told() {
    a_holder_and_one_that_wants();
}

#[test]
fn a_want_survives_two_holders_in_a_row() {
    two_holders_and_one_that_wants();
}

#[test]
fn without_a_second_try_a_want_is_lost() {
    for model in [a_holder_and_one_that_wants, two_holders_and_one_that_wants] {
        let text = objection_without(Part::SecondTry, model);
        assert!(text.contains("the want was lost"), "{text}");
    }
}

#[test]
fn unwinding_frees_the_role_and_keeps_the_want() {
    loom::model(|| {
        let role = Role::new(());
        let held = role.try_take().expect("free");
        assert!(role.take_or_want().is_none());
        drop(held);
        let held = role.try_take().expect("free after unwinding");
        assert!(held.is_wanted());
        assert!(held.release());
    });
}

/// Compiles only if `Held` is not `Sync` where the state is not: otherwise both implementations fit.
#[test]
fn a_held_role_is_shared_between_threads_only_if_its_state_may_be() {
    struct IsSync;
    trait NotSync<Ambiguous> {
        fn holds() {}
    }
    impl<T: ?Sized> NotSync<()> for T {}
    impl<T: ?Sized + Sync> NotSync<IsSync> for T {}
    <Held<'_, std::cell::Cell<u32>> as NotSync<_>>::holds();
}
