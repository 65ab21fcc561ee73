//! What the import accepts, and how precisely it says what it does not.

use super::*;

const HEADER: &str =
    "account,name,card,pin,opening_balance,currency,overdraft_limit,daily_withdrawal_limit\n";

fn read_bdt(text: &str) -> Result<Vec<Line>, Problems> {
    read(text, Currency::BDT, false)
}

fn problems(text: &str) -> Vec<String> {
    read_bdt(text).err().unwrap().listed.iter().map(ToString::to_string).collect()
}

#[test]
fn a_full_line_becomes_an_account_with_its_card() {
    let text = format!("{HEADER}BD-0042,\"Khan, Farhan\",123456789,1234,1169.50,BDT,100,20000\n");
    let lines = read_bdt(&text).unwrap();
    let row = &lines[0].row;
    let account = row.account.as_ref().unwrap();
    assert_eq!(lines[0].line, 2);
    assert_eq!((account.account_number.as_str(), account.holder_name.as_str()), ("BD-0042", "Khan, Farhan"));
    assert_eq!(account.opening_balance.as_ref().unwrap().minor_units, 116_950);
    assert_eq!(account.overdraft_limit_minor_units, 10_000);
    assert_eq!(account.daily_withdrawal_limit_minor_units, 2_000_000);
    assert_eq!((row.card_number.as_str(), row.pin.as_str()), ("123456789", "1234"));
}

#[test]
fn tabs_comments_a_byte_order_mark_and_missing_optional_columns_are_fine() {
    let text = "\u{feff}# accounts of the pilot\nopening_balance\taccount\tname\r\n10\tA\tAnna\r\n\r\n20\tB\tBert\r\n";
    let lines = read_bdt(text).unwrap();
    assert_eq!(lines.iter().map(|line| line.line).collect::<Vec<_>>(), [3, 5]);
    let account = lines[1].row.account.as_ref().unwrap();
    assert_eq!((account.account_number.as_str(), account.daily_withdrawal_limit_minor_units), ("B", 0));
    assert!(lines[0].row.card_number.is_empty());
}

#[test]
fn pin_later_drops_the_pins_and_keeps_the_cards() {
    let text = format!("{HEADER}A,Anna,12345678,1234,1,,,\n");
    let lines = read(&text, Currency::BDT, true).unwrap();
    assert_eq!((lines[0].row.card_number.as_str(), lines[0].row.pin.as_str()), ("12345678", ""));
}

#[test]
fn every_problem_of_every_line_is_told_with_line_and_column() {
    let text = format!(
        "{HEADER}\
         A B,Anna,12345678,1234,1,BDT,,\n\
         C,,1234567,12,ten,USD,-1,0.001\n\
         D,Dora\n\
         E,Emil,,1234,5,BDT,,\n"
    );
    let found = problems(&text);
    for expected in [
        "line 2, column account: it needs 1 to 34 characters",
        "line 3, column name: it needs 1 to 100 characters",
        "line 3, column currency: this import is in BDT: give --currency USD if",
        "line 3, column opening_balance: it must be a decimal amount",
        "line 3, column overdraft_limit: it must not be negative",
        "line 3, column daily_withdrawal_limit: it has more than 2 decimals",
        "line 3, column card: it needs 8 to 19 digits",
        "line 3, column pin: it needs 4 to 12 digits",
        "line 4: it has 2 fields, the header has 8",
        "line 5, column pin: there is a PIN but no card",
    ] {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}\nin {found:#?}");
    }
    assert_eq!(found.len(), 10, "{found:#?}");
}

#[test]
fn a_quote_that_is_not_closed_is_named() {
    let text = format!("{HEADER}A,\"Anna,12345678,1234,1,,,\nB,Bert,87654321,1234,1,,,\n");
    assert_eq!(problems(&text), ["line 2: it has 2 fields, the header has 8; a quote in it is not closed"]);
}

#[test]
fn a_pin_with_a_slip_is_not_repeated_on_the_screen() {
    let text = format!("{HEADER}A,Anna,12345678,98765x,1,,,\n");
    assert!(problems(&text).iter().all(|problem| !problem.contains("98765")));
}

#[test]
fn a_header_that_is_wrong_is_told_by_name() {
    let found = problems("account,card,card,surname\nA,1,2,3\n");
    assert!(
        found.iter().any(|problem| problem.contains("column card: the header names it twice")),
        "{found:?}"
    );
    assert!(found.iter().any(|problem| problem.contains("unknown column \"surname\"")), "{found:?}");
    assert!(found.iter().any(|problem| problem.contains("column name: the header lacks it")), "{found:?}");
    assert!(found.iter().any(|problem| problem.contains("column opening_balance: the header lacks it")));
}

#[test]
fn an_account_has_one_description_and_a_card_one_account() {
    let head = format!("{HEADER}A,Anna,12345678,1234,1,,,\n");
    assert!(read_bdt(&format!("{head}A,Anna,87654321,1234,1,,,\n")).is_ok(), "a second card");
    assert!(problems(&format!("{head}A,Anna,87654321,1234,2,,,\n"))[0].contains("line 2 with other values"));
    assert!(
        problems(&format!("{head}B,Bert,12345678,1234,1,,,\n"))[0]
            .contains("card: this card stands on line 2")
    );
    assert!(problems(&format!("{head}A,Anna,,,1,,,\n"))[0].contains("line 2 already"));
}

#[test]
fn twenty_problems_are_listed_and_all_are_counted() {
    let text = format!("{HEADER}{}", "?,Anna,,,1,,,\n".repeat(50));
    let problems = read_bdt(&text).err().unwrap();
    assert_eq!((problems.listed.len(), problems.count), (20, 50));
}

#[test]
fn an_empty_file_says_so() {
    assert!(problems("").iter().any(|problem| problem.contains("the header lacks it")));
    assert!(problems(HEADER)[0].contains("no accounts"));
}
